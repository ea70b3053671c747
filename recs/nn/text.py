"""Texts as vectors: any `transformers` encoder or causal model by folder or hub name, or hashed words where there is none.

    hashed          words and their three-letter parts, each with a fixed random direction: no download, any language that has spaces
    /models/minilm  a folder or a hub name: mean of the last states of an encoder, the last token's state of a causal model

A text's vector depends on nothing but the text and the model: every text is padded to `max_tokens`, `ROWS` texts go together, one thread.

Shapes: N texts, T tokens, D dimensions.
"""
from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

HASHED = "hashed"
WIDTH, BUCKETS, WORDS = 256, 1 << 18, 1 << 16      # of directions and of words at hand: 256 MB and 64 MB at most
ROWS = 32
_WORD = re.compile(r"\w+", re.UNICODE)


class TextError(ValueError):
    """A language model that cannot be had; the message names it and the remedy."""


def encode(model: str, texts: Sequence[str], max_tokens: int = 64, offline: bool = True) -> np.ndarray:
    """[N, D] float32, unit length; a text without a word is a row of zeros."""
    if model == HASHED:
        return np.stack([_hashed(text) for text in texts]) if len(texts) else np.zeros((0, WIDTH), np.float32)
    return Encoder.of(model, max_tokens, offline).encode(texts)


def _hashed(text: str) -> np.ndarray:
    out = np.zeros(WIDTH, np.float32)
    for word in _WORD.findall(text.casefold()):
        out += _of_word(word)
    return out / max(np.linalg.norm(out), 1e-9)


@lru_cache(WORDS)
def _of_word(word: str) -> np.ndarray:
    parts = [word, *(f"<{word}>"[i : i + 3] for i in range(len(word)))]
    return _direction(parts[0]) + sum(_direction(p) for p in parts[1:]) / len(parts)


@lru_cache(BUCKETS)
def _direction(part: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32) / WIDTH**0.5


def pretrained(kind: str, name: str | Path, offline: bool, absent: str, instead: str = "") -> tuple[Any, Any]:
    """Tokenizer and model of a folder or hub name, loaded by the class `kind` of transformers.

    TextError: it says `absent` where there is no such model, and what one may do `instead` where transformers is missing.
    """
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError as e:
        raise TextError(f"{name}: language models need the extra `lm`: pip install 'recs[lm]'{instead}") from e
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=offline)
        return tokenizer, getattr(transformers, kind).from_pretrained(name, local_files_only=offline).eval()
    except (OSError, ValueError) as e:
        raise TextError(f"{name}: {absent} ({e})") from e


class Encoder:
    """A `transformers` model at work: `model`, `tokenizer`, and whether it is `causal`."""

    def __init__(self, name: str, max_tokens: int, offline: bool) -> None:
        where = "no such folder here, and the hub is not asked (text.offline)" if offline else "neither a folder here nor on the hub"
        absent = f"{where}; give the folder that holds config.json, the weights and the tokenizer"
        self.tokenizer, self.model = pretrained("AutoModel", name, offline, absent, f" (or name the encoder {HASHED!r})")
        try:
            self.causal = is_causal(self.model)
        except ValueError as e:     # of an encoder with a decoder: no model of this kind
            raise TextError(f"{name}: {absent} ({e})") from e
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.max_tokens = max_tokens

    @classmethod
    @lru_cache(2)
    def of(cls, name: str, max_tokens: int, offline: bool) -> Encoder:
        """Loaded once per process; its weights are everybody's, so they are never changed."""
        return cls(name, max_tokens, offline)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[N, D] float32."""
        import torch

        threads, found = torch.get_num_threads(), []
        torch.set_num_threads(1)        # a Spark task has one core, and threads change the bits of a sum
        try:
            with torch.inference_mode():
                for lo in range(0, len(texts), ROWS):
                    some = [*texts[lo : lo + ROWS]]
                    found.append(self._states([*some, *[""] * (ROWS - len(some))])[: len(some)])
        finally:
            torch.set_num_threads(threads)
        vectors = np.concatenate(found) if found else np.zeros((0, self.model.config.hidden_size), np.float32)
        vectors[~says_something(texts)] = 0
        return vectors

    def tokens(self, texts: list[str]) -> tuple[Any, Any]:
        """[N, T] tokens and which of them are real, as tensors, padded on the right to `max_tokens`."""
        found = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt", padding_side="right")
        return found["input_ids"], found["attention_mask"]

    def _states(self, texts: list[str]) -> np.ndarray:
        ids, mask = self.tokens(texts)
        return vectors_of(self.model, ids, mask, self.causal).numpy()


def says_something(texts: Sequence[str]) -> np.ndarray:
    """[N] bool: is there a word in it?"""
    return np.array([bool(_WORD.search(text)) for text in texts], bool)


def vectors_of(model: Any, ids: Any, mask: Any, causal: bool) -> Any:
    """Tokens [N, T] -> vectors [N, D] float32 of unit length."""
    import torch.nn.functional as F

    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return F.normalize(pooled(states, mask, causal).float(), dim=-1)


def pooled(states: Any, mask: Any, causal: bool) -> Any:
    """[N, T, D] states -> [N, D]: the mean of the real tokens, or of a causal model the last one, which alone has read all."""
    if causal:
        last = (mask.sum(1) - 1).clamp(min=0)
        return states[range(len(states)), last]
    share = mask.unsqueeze(-1).to(states.dtype)
    return (states * share).sum(1) / share.sum(1).clamp(min=1)


def is_causal(model: Any) -> bool:
    """Does a token of it see only those before?  Asked of the model: its first state must not change with what follows."""
    import torch

    size = model.config.vocab_size
    a, b = torch.tensor([[1 % size, 2 % size]]), torch.tensor([[1 % size, 3 % size]])
    with torch.inference_mode():
        first, other = (model(input_ids=x).last_hidden_state[:, 0] for x in (a, b))
    return bool(torch.allclose(first, other, atol=1e-5))
