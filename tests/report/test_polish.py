"""A polished sentence names the recommended items and nothing else, or it is not shown."""
from __future__ import annotations

import pytest

from recs.report.phrases import phrases_of
from recs.report.polish import polished, refusal

EN, ZH = phrases_of("en"), phrases_of("zh")
ROWS = [{"item_id": "mug", "title": "Mug"}, {"item_id": "tea", "title": "Green tea"}]
ZH_ROWS = [{"item_id": "mug", "title": "红杯子"}, {"item_id": "tea", "title": "Sencha"}]
PLAIN, ZH_PLAIN = "Recommended for you: Mug, Green tea", "推荐给您的商品有：红杯子、Sencha"

GOOD = ["We picked Mug and Green tea for you today.", "Hello! You might like Mug, and also Green tea.", PLAIN, "Mug, Green tea"]
BAD = {
    "": "no answer",
    "We picked Mug, Green tea and Kettle for you.": "'Kettle' is no word",
    "We picked Mug, Green tea and kettle for you.": "'kettle' is no word",
    "We picked Red Mug and Green tea for you.": "'Red' is no word",               # another item that has a name in it
    "We picked Mugs and Green tea for you.": "Mug is not named",
    "We picked smug Mug and Green tea for you.": "'smug' is no word",
    "We picked Green tea for you.": "Mug is not named",
    "We picked Green tea and Mug for you.": "another order",
    "We picked Mug, Mug and Green tea for you.": "twice",
    "We picked Mug and Green tea for you (and more).": r"'\(' is no mark",
    "We picked Mug and Green tea for you at 9.": "'9' is no word",
    "We picked Mug and Green tea for you 🎁": "'🎁' is no mark",
    "We picked Mug and 绿茶 and Green tea for you.": "'绿茶' is no word",
    "Mug, Green tea " + "for you and you " * 9: "longer than 3 times",
    "Mug\x00, Green tea": "NUL",
}


def says(answer: str):
    """A language model that always gives this answer."""
    return lambda prompt: answer


@pytest.mark.parametrize("answer", GOOD)
def test_what_names_every_item_and_no_other_is_shown(answer: str):
    said = polished(ROWS, EN, says(f"  {answer}\n"))
    assert (said.text, said.refused) == (answer, "")


@pytest.mark.parametrize("answer", BAD)
def test_what_invents_forgets_or_turns_round_is_not(answer: str):
    said = polished(ROWS, EN, says(answer))
    assert said.text == PLAIN
    with pytest.raises(AssertionError, match=BAD[answer]):
        raise AssertionError(said.refused)


def test_chinese_is_read_without_blanks():
    good = ["今天为您推荐红杯子和Sencha，希望您喜欢。", "您好！我们为您挑选了红杯子、Sencha。"]
    assert [polished(ZH_ROWS, ZH, says(a)).text for a in good] == good
    bad = {
        "今天为您推荐红杯子、Sencha和茶壶。": "茶壶",                 # an invented pot
        "今天为您推荐大红杯子和Sencha。": "大",                       # another cup
        "今天为您推荐红杯子。": "Sencha is not named",
        "今天为您推荐红杯子和SenchaX。": "Sencha is not named",
    }
    for answer, why in bad.items():
        said = polished(ZH_ROWS, ZH, says(answer))
        assert said.text == ZH_PLAIN and why in said.refused, answer


def test_a_title_of_allowed_words_alone_is_known_by_the_catalogue():
    answer = "Mug, Green tea: just for you."
    assert refusal(answer, ["Mug", "Green tea"], PLAIN, EN) == ""
    assert refusal(answer, ["Mug", "Green tea"], PLAIN, EN, others=["Mug", "Just for You"]) == "Just for You is not recommended"
    assert refusal(answer, ["Mug", "Green tea"], PLAIN, EN, others=["or you", "Mug"]) == ""        # not inside a word


def test_of_names_that_begin_alike_the_longer_is_meant():
    rows = [{"item_id": "a", "title": "Tea"}, {"item_id": "b", "title": "Tea pot"}, {"item_id": "c", "title": "Tea (green)"}]
    answer = "Today we recommend Tea, Tea pot and Tea (green)."
    assert polished(rows, EN, says(answer)).text == answer
    assert polished(rows[1:], EN, says(answer)).refused == "'Tea' is no word it may use"


def test_the_model_is_asked_with_the_plain_sentence_and_not_for_nothing():
    asked: list[str] = []
    polished(ROWS, EN, lambda prompt: asked.append(prompt) or "")
    assert len(asked) == 1 and PLAIN in asked[0]
    assert polished([], EN, asked.append).text == "There is nothing new for you today"
    assert len(asked) == 1


# ---- a real, tiny model: what it writes is noise, and the plain sentence is shown

@pytest.fixture(scope="module")
def tiny_writer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A causal model of two small layers with random weights, and a tokenizer of single characters."""
    pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("writer")
    letters = sorted(set("abcdefghijklmnopqrstuvwxyzGKMRS :,.!\n推荐给您的商品有红杯子：、。"))
    vocabulary = {"<pad>": 0, "<unk>": 1} | {c: n for n, c in enumerate(letters, start=2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(7)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(vocabulary), n_embd=32, n_layer=2, n_head=2, n_positions=256)).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_a_models_noise_is_refused(tiny_writer: str, monkeypatch: pytest.MonkeyPatch):
    from recs.nn.writer import Writer

    def no_network(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", no_network)
    write = Writer(tiny_writer, max_new_tokens=40)
    for rows, phrases, plain in ((ROWS, EN, PLAIN), (ZH_ROWS, ZH, ZH_PLAIN)):
        prompt = phrases.polish.prompt.format(sentence=plain)
        noise = write(prompt)
        assert 0 < len(noise) <= 40 and noise == write(prompt)
        said = polished(rows, phrases, write)
        assert said.text == plain and said.refused
    assert write("a" * 300) == ""       # more than the model can read


@pytest.mark.slow
def test_a_folder_without_a_model_says_what_to_give(tmp_path):
    from recs.nn.text import TextError
    from recs.nn.writer import Writer

    with pytest.raises(TextError, match="give the folder that holds config.json"):
        Writer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TextError, match="not a causal language model"):
        Writer(tmp_path)
