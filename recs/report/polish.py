"""A list sentence in a language model's words, if these name the recommended items and nothing else; else the plain sentence.

    plain       Recommended for you: Mug, Green tea
    answer      We picked Mug and Green tea for you today.         accepted
    answer      Try Mug, Green tea and our new Kettle!              refused: 'new' is no word it may use
    answer      Enjoy a cup of Green tea.                           refused: Mug is not named

An invented item can be called anything, so no list of forbidden names would do.  The check is the other way round: the names taken out,
what is left may hold only the words that `polish.words` of the phrases lists and those of the plain sentence.  Strict on purpose: a
good sentence that is refused costs nothing, the plain one is shown.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .phrases import Phrases
from .sentences import list_sentence, names_of

Write = Callable[[str], str]    # prompt -> answer; recs.nn.writer.Writer is one

_NAME, _WORD = "\x00", re.compile(r"\w+", re.UNICODE)
_MARKS = re.compile(r"[\s.,;:!?'’…–—\-、，。；：！？~～]*")     # beside words; no digit, bracket, quotation mark, link or emoji
_UNSPACED = re.compile(r"[\u3400-\u9fff]")                       # Chinese characters: words without blanks between them
LONGEST = 3         # times as long as the plain sentence


@dataclass(frozen=True)
class Said:
    """A sentence, and why the model's answer was not it ('' = it is)."""

    text: str
    refused: str


def polished(
    rows: Iterable[Mapping[str, Any]], phrases: Phrases, write: Write, limit: int = 5, others: Sequence[str] = (),
) -> Said:
    """The list sentence of these rows as `write` puts it, else the plain one.

    `others` are titles that must not be named (the catalogue's): needed only where a title consists of nothing but allowed words.
    """
    some = list(rows)
    plain, names = list_sentence(some, phrases, limit), names_of(some, phrases, limit)
    if not names:
        return Said(plain, "there is nothing to name")
    answer = " ".join(write(phrases.polish.prompt.format(sentence=plain)).split())
    why = refusal(answer, names, plain, phrases, others)
    return Said(plain, why) if why else Said(answer, "")


def refusal(answer: str, names: Sequence[str], plain: str, phrases: Phrases, others: Sequence[str] = ()) -> str:
    """Why an answer may not be shown; '' when every name is in it once, in their order, and nothing else is named."""
    if not answer:
        return "there is no answer"
    if len(answer) > LONGEST * len(plain):
        return f"it is longer than {LONGEST} times the plain sentence"
    if _NAME in answer:
        return "it holds a NUL character"
    found, rest = _without(answer, names)
    if missing := [n for n in names if n not in found]:
        return f"{missing[0]} is not named"
    if len(found) > len(names):
        return "a name comes twice"
    if found != list(names):
        return "the names come in another order"
    if odd := _MARKS.sub("", _WORD.sub("", rest.replace(_NAME, " "))):
        return f"{odd[0]!r} is no mark it may use"
    allowed = {w.casefold() for w in phrases.polish.words.split()} | _words(_without(plain, names)[1])
    if unknown := [w for w in _WORD.findall(rest.replace(_NAME, " ")) if not _made_of(w.casefold(), allowed)]:
        return f"{unknown[0]!r} is no word it may use"
    # a blank on each side: `Pot` is not in `spot`
    said = f" {' '.join(_WORD.findall(rest.casefold()))} "
    if named := [t for t in others if t not in names and (words := " ".join(_WORD.findall(t.casefold()))) and f" {words} " in said]:
        return f"{named[0]} is not recommended"
    return ""


def _without(text: str, names: Sequence[str]) -> tuple[list[str], str]:
    """The names as they stand in a text, whole words only, and what is left; of two that begin alike the longer one is meant."""
    longest_first = sorted(names, key=len, reverse=True)
    pattern = re.compile("|".join(_edge(n) for n in longest_first))
    return pattern.findall(text), pattern.sub(_NAME, text)


def _edge(name: str) -> str:
    """A pattern of the name that does not match inside a word of letters that are written with blanks."""
    before = r"(?<!\w)" if name[0].isalnum() and not _UNSPACED.match(name[0]) else ""
    after = r"(?!\w)" if name[-1].isalnum() and not _UNSPACED.match(name[-1]) else ""
    spaced = re.escape(name)
    # a name of Latin letters may touch Chinese ones: `推荐Mug给您`
    return before.replace(r"\w", r"[^\W\u3400-\u9fff]") + spaced + after.replace(r"\w", r"[^\W\u3400-\u9fff]")


def _words(text: str) -> set[str]:
    return {w.casefold() for w in _WORD.findall(text.replace(_NAME, " "))}


def _made_of(word: str, allowed: set[str]) -> bool:
    """Is it an allowed word, or, of Chinese characters, a row of them?"""
    if word in allowed or not _UNSPACED.search(word):
        return word in allowed
    reached = {0}       # ends of what can be read as allowed words
    for end in range(1, len(word) + 1):
        if any(word[start:end] in allowed for start in reached):
            reached.add(end)
    return len(word) in reached
