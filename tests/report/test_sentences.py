"""What end users read, sentence by sentence, against sentences written by hand."""
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from recs.models.base import REASONS
from recs.report.phrases import OTHER, PhraseError, phrases_of, shipped
from recs.report.sentences import list_sentence, reason_sentence, when, with_sentences
from recs.serve.score import MODEL_ERROR

REPO = Path(__file__).resolve().parents[2]
SHANGHAI, NEW_YORK = "Asia/Shanghai", "America/New_York"
EN, ZH = phrases_of("en"), phrases_of("zh")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def row(**other) -> dict:
    """The mug, because ann watched the tea on Sunday 3 March 2024, 19:40 in Amsterdam; read on Wednesday morning."""
    return {
        "item_id": "mug", "title": "Mug", "reason_code": "neighbour", "evidence_item_id": "tea", "evidence_title": "Green tea",
        "evidence_type": "watch", "evidence_ts": at("2024-03-03 18:40"), "zone": "Europe/Amsterdam", "serve_at": at("2024-03-06 06:00"),
    } | other


SAID = [
    # what is different, English, Chinese
    ({}, "Because you watched Green tea on Sunday evening", "因为你周日晚上观看了Green tea"),
    ({"evidence_type": "view", "evidence_ts": at("2024-03-05 13:00"), "evidence_title": "绿茶"},
     "Because you viewed 绿茶 yesterday afternoon", "因为你昨天浏览了绿茶"),
    ({"evidence_type": "view", "evidence_ts": at("2024-03-05 20:00")},
     "Because you viewed Green tea yesterday evening", "因为你昨天晚上浏览了Green tea"),
    ({"evidence_type": "PURCHASE"}, "Because you bought Green tea on Sunday evening", "因为你周日晚上购买了Green tea"),
    ({"evidence_type": "levitate"}, "Because you chose Green tea on Sunday evening", "因为你周日晚上选择了Green tea"),
    ({"evidence_type": None}, "Because you chose Green tea on Sunday evening", "因为你周日晚上选择了Green tea"),
    ({"evidence_title": None}, "Because you watched something on Sunday evening", "因为你周日晚上观看了某件商品"),
    ({"reason_code": "repeat", "evidence_item_id": "mug"}, "Because you watched it on Sunday evening", "因为你周日晚上观看了它"),
    ({"reason_code": "repeat", "evidence_item_id": None}, "Because you come back to it", "因为你经常选择它"),
    ({"reason_code": "neighbour", "evidence_ts": None}, "Because it goes with what you chose before", "因为它与你选过的商品相配"),
    ({"reason_code": "similar_users"}, "Because others who watched Green tea chose this too; you did so on Sunday evening",
     "因为你周日晚上观看了Green tea，和你相似的人也选择了它"),
    ({"reason_code": "taste"}, "Because it suits your taste: you watched Green tea on Sunday evening",
     "因为它合你的口味：你周日晚上观看了Green tea"),
    ({"reason_code": "popular"}, "Because many people choose it now", "因为现在很多人选择它"),
    ({"reason_code": "model_error", "evidence_item_id": None}, "Because many people choose it now", "因为现在很多人选择它"),
    ({"reason_code": "magic"}, "Because you watched Green tea on Sunday evening", "因为你周日晚上观看了Green tea"),
    ({"reason_code": "magic", "evidence_item_id": None}, "Chosen for you", "为你挑选"),
    # a log without a clock: the instant is a position
    ({"evidence_ts": at("1970-02-03 00:00"), "serve_at": at("1970-02-05 00:00")}, "Because you watched Green tea", "因为你观看了Green tea"),
    ({"serve_at": None}, "Because you watched Green tea", "因为你观看了Green tea"),
    ({"evidence_title": "A {did} of\n braces"},
     "Because you watched A {did} of braces on Sunday evening", "因为你周日晚上观看了A {did} of braces"),
]


@pytest.mark.parametrize(("different", "en", "zh"), SAID, ids=lambda v: str(v)[:50])
def test_reasons_are_said(different: dict, en: str, zh: str):
    assert reason_sentence(row(**different), EN) == en
    assert reason_sentence(row(**different), ZH) == zh


WHEN = [
    # of the event, read at, zone, English, Chinese
    ("2024-03-06 05:30", "2024-03-06 09:00", "UTC", "this morning", "今天上午"),
    ("2024-03-06 01:30", "2024-03-06 09:00", "UTC", "last night", "今天凌晨"),
    ("2024-03-05 23:59", "2024-03-06 00:01", "UTC", "yesterday evening", "昨天晚上"),
    ("2024-03-05 03:00", "2024-03-06 09:00", "UTC", "early yesterday", "昨天凌晨"),
    ("2024-03-04 12:00", "2024-03-06 09:00", "UTC", "on Monday afternoon", "前天"),
    ("2024-03-02 02:00", "2024-03-06 09:00", "UTC", "early on Saturday", "周六凌晨"),
    ("2024-02-29 10:00", "2024-03-06 09:00", "UTC", "on Thursday morning", "周四上午"),      # six days
    ("2024-02-28 10:00", "2024-03-06 09:00", "UTC", "7 days ago", "7天前"),
    ("2024-02-21 10:00", "2024-03-06 09:00", "UTC", "2 weeks ago", "2周前"),
    ("2024-01-07 10:00", "2024-03-06 09:00", "UTC", "8 weeks ago", "8周前"),                # 59 days
    ("2024-01-06 10:00", "2024-03-06 09:00", "UTC", "2 months ago", "2个月前"),
    ("2023-01-06 10:00", "2024-03-06 09:00", "UTC", "over a year ago", "一年多前"),
    ("2020-01-06 10:00", "2024-03-06 09:00", "UTC", "4 years ago", "4年前"),
    # the same two instants are other days and other parts of the day elsewhere
    ("2024-03-05 17:00", "2024-03-05 23:00", "UTC", "this afternoon", "今天下午"),
    ("2024-03-05 17:00", "2024-03-05 23:00", SHANGHAI, "last night", "今天凌晨"),
    ("2024-03-05 17:00", "2024-03-05 23:00", NEW_YORK, "this afternoon", "今天下午"),
    ("2024-03-05 03:00", "2024-03-05 12:00", NEW_YORK, "yesterday evening", "昨天晚上"),
    # the clocks go forward at 02:00 in Amsterdam on the 31st: 21:30 UTC is 22:30 on the 30th, 22:30 UTC is 00:30 on the 1st
    ("2024-03-30 21:30", "2024-03-31 06:00", "Europe/Amsterdam", "yesterday evening", "昨天晚上"),
    ("2024-03-31 22:30", "2024-04-01 06:00", "Europe/Amsterdam", "last night", "今天凌晨"),
    ("2024-03-06 09:30", "2024-03-06 09:00", "UTC", "this morning", "今天上午"),            # an event after the instant it is read at
    ("2024-03-05 17:00", "2024-03-05 23:00", "Mars/Olympus", "this afternoon", "今天下午"),  # a zone that is none: UTC
]


@pytest.mark.parametrize(("event", "read_at", "zone", "en", "zh"), WHEN)
def test_days_and_their_parts_are_the_users_own(event: str, read_at: str, zone: str, en: str, zh: str):
    assert when(at(event), at(read_at), zone, EN) == en
    assert when(at(event), at(read_at), zone, ZH) == zh


def test_the_rows_zone_wins_over_the_one_given_and_now_over_serve_at():
    some = row(evidence_ts=at("2024-03-05 03:00"), serve_at=at("2024-03-05 12:00"))
    assert "early on Tuesday" not in reason_sentence(some | {"zone": NEW_YORK}, EN, zone=SHANGHAI)
    assert reason_sentence(some | {"zone": NEW_YORK}, EN, zone=SHANGHAI).endswith("yesterday evening")
    assert reason_sentence(some | {"zone": None}, EN, zone=SHANGHAI).endswith("this morning")
    assert reason_sentence(some | {"zone": None}, EN, now=at("2024-03-08 12:00")).endswith("early on Tuesday")


LISTS = [
    ([("a", "Mug"), ("b", "Green tea")], "Recommended for you: Mug, Green tea", "推荐给您的商品有：Mug、Green tea"),
    ([("a", "Mug"), ("b", None), ("c", float("nan"))], "Recommended for you: Mug, item b, item c", "推荐给您的商品有：Mug、商品b、商品c"),
    ([("a", "Mug"), ("b", "Mug"), ("c", "Pot")], "Recommended for you: Mug, Pot", "推荐给您的商品有：Mug、Pot"),
    ([("a", " Tea \n for two ")], "Recommended for you: Tea for two", "推荐给您的商品有：Tea for two"),
    ([], "There is nothing new for you today", "今天没有新的推荐"),
]


@pytest.mark.parametrize(("items", "en", "zh"), LISTS)
def test_lists_are_said(items: list, en: str, zh: str):
    rows = [{"item_id": i, "title": t} for i, t in items]
    assert list_sentence(rows, EN) == en
    assert list_sentence(rows, ZH) == zh


def test_long_titles_are_cut_after_a_word_and_long_lists_after_the_limit():
    long = "Hand painted porcelain tea pot with a lid of olive wood and two cups"
    assert list_sentence([{"item_id": "a", "title": long}], EN) == (
        "Recommended for you: Hand painted porcelain tea pot with a lid of olive wood and…")
    many = [{"item_id": str(n), "title": f"Item {n}"} for n in range(9)]
    assert list_sentence(many, EN, limit=2) == "Recommended for you: Item 0, Item 1"


def test_frames_of_pandas_get_a_column_whatever_way_they_say_nothing():
    rows = [row(), row(evidence_title=None, zone=None), row(reason_code="popular", evidence_item_id=None, evidence_ts=None)]
    frame = pd.DataFrame(rows)
    said = [
        "Because you watched Green tea on Sunday evening", "Because you watched something on Sunday evening",
        "Because many people choose it now",
    ]
    assert with_sentences(frame, EN)["sentence"].to_list() == said
    assert with_sentences(frame.convert_dtypes(), EN)["sentence"].to_list() == said              # pd.NA
    naive = frame.assign(evidence_ts=frame["evidence_ts"].dt.tz_localize(None), serve_at=frame["serve_at"].dt.tz_localize(None))
    assert with_sentences(naive, EN)["sentence"].to_list() == said                               # as Spark's toPandas gives instants
    assert with_sentences(frame.assign(evidence_title=np.nan), EN)["sentence"][0] == said[1]
    assert list(with_sentences(frame.head(0), EN).columns) == [*frame.columns, "sentence"]
    assert "sentence" not in frame


# ---- phrases as data

@pytest.mark.parametrize("language", shipped())
def test_every_reason_code_and_event_type_has_its_words(language: str):
    phrases = phrases_of(language)
    assert set(phrases.reasons) == {*REASONS, MODEL_ERROR, OTHER}
    mappings = [yaml.safe_load(p.read_text(encoding="utf-8")) for p in (REPO / "configs" / "mappings").glob("*.yaml")]
    types = {t.casefold() for m in mappings for t in m["events"]["event_types"]}
    assert len(types) > 10 and types - set(phrases.did) == set()


def test_a_file_of_ones_own_changes_what_it_says(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        'extends: en\ndid: {watch: streamed, Levitate: floated above}\nlist: "Our picks: {items}"\n'
        "reasons: {neighbour: {same: Again}, omen: {plain: The stars say so}}\n", encoding="utf-8")
    phrases = phrases_of(mine)
    assert reason_sentence(row(), phrases) == "Because you streamed Green tea on Sunday evening"
    assert reason_sentence(row(evidence_type="levitate"), phrases) == "Because you floated above Green tea on Sunday evening"
    assert reason_sentence(row(reason_code="omen"), phrases) == "The stars say so"
    assert reason_sentence(row(evidence_type="view"), phrases) == reason_sentence(row(evidence_type="view"), EN)
    assert list_sentence([row()], phrases) == "Our picks: Mug"


WRONG = {
    "extends: fr": "extends 'fr'; there are en, zh",
    "extends: en\nlist: '{things}'": "asks for {things}; known here: items",
    "extends: en\nreasons: {taste: {event: 'You {verb} it'}}": "reasons.taste.event: .*asks for {verb}",
    "extends: en\nreasons: {popular: {plain: 'Liked {when}'}}": "asks for {when}; known here: none",
    "extends: en\ndays: [{since: 1, any: yesterday}]": "rows start at since: 0",
    "extends: en\ndays: [{since: 0, morning: this morning}]": "nothing is said for the night",
    "extends: en\nhours: {dusk: 18}": "name night, morning, afternoon, evening",
    "extends: en\nlst: '{items}'": "lst: Extra inputs",
    "did: {view: viewed}": "did: the row 'other' is missing",
    "extends: en\nlist: '{items'": "expected '}'",
    "- a list": "expected keys and values",
    "a: [": "not YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_refused_when_it_is_read(text: str, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PhraseError, match=WRONG[text]) as e:
        phrases_of(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(e.value)


def test_no_such_language_says_which_there_are():
    with pytest.raises(PhraseError, match="no phrases 'klingon': name one of en, zh, or a YAML file"):
        phrases_of("klingon")
