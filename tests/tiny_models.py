"""Language models of two small layers with random weights, and a tokenizer of single characters, Chinese ones too."""
from __future__ import annotations

from pathlib import Path

LETTERS = sorted(set("abcdefghijklmnopqrstuvwxyz 0123456789;" + "小时前购买了浏览天昨红杯子灯刚才；"))


def _tokenizer(folder: Path) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<unk>": 1} | {c: n for n, c in enumerate(LETTERS, start=2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return len(vocabulary)


def save_causal(folder: Path) -> str:
    """GPT-2 by its shape."""
    import torch
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=_tokenizer(folder), n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=None, eos_token_id=None)
    GPT2Model(config).save_pretrained(folder)
    return str(folder)


def save_encoder(folder: Path) -> str:
    """BERT by its shape."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=_tokenizer(folder), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128)
    BertModel(config).save_pretrained(folder)
    return str(folder)
