"""The words end users read: templates as data, one YAML file per language, English and Chinese shipped in `configs/phrases/`.

A file of one's own starts with `extends: en` and says only what it changes:

    extends: en
    did: {watch: streamed}
    list: "Our picks for you: {items}"

A template is text with names in braces; a name that its place does not know is refused when the file is read, not when a user reads it.
"""
from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PARTS = ("night", "morning", "afternoon", "evening")
OTHER = "other"     # the row of a table of phrases that stands for everything it does not name


class PhraseError(ValueError):
    """A file of phrases that cannot be used; the message names the file and the key."""


def _names(text: str, *known: str) -> str:
    """The template, unless it asks for a name that nobody will give it."""
    try:
        asked = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as e:
        raise ValueError(f"{text!r}: {e}") from e
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"{text!r} asks for {{{unknown[0]}}}; known here: {', '.join(known) or 'none'}")
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reason(_Strict):
    """How one reason code is said: with the past event behind it, with an event on the very item, without an event."""

    event: str | None = None
    same: str | None = None
    plain: str

    @field_validator("event", "same")
    @classmethod
    def _event(cls, v: str | None) -> str | None:
        return v and _names(v, "did", "item", "when")

    @field_validator("plain")
    @classmethod
    def _plain(cls, v: str) -> str:
        return _names(v)


class Days(_Strict):
    """How `since` days ago and more are said, in each part of the day or, as `any`, in all; {n} counts `per` days."""

    since: int = Field(ge=0)
    per: int = Field(1, ge=1)
    any: str | None = None
    night: str | None = None
    morning: str | None = None
    afternoon: str | None = None
    evening: str | None = None

    @field_validator("any", *PARTS)
    @classmethod
    def _when(cls, v: str | None) -> str | None:
        return v and _names(v, "n", "weekday", "part")

    @model_validator(mode="after")
    def _whole(self) -> Days:
        if silent := [p for p in PARTS if self.phrase(p) is None]:
            raise ValueError(f"days since {self.since}: nothing is said for the {silent[0]}")
        return self

    def phrase(self, part: str) -> str | None:
        """The template of a part of the day."""
        return getattr(self, part) or self.any


class Polish(_Strict):
    """What a language model is asked, and the words its answer may hold beside the names (recs/report/polish.py)."""

    prompt: str
    words: str

    @field_validator("prompt")
    @classmethod
    def _prompt(cls, v: str) -> str:
        return _names(v, "sentence")


class Phrases(_Strict):
    """One language, whole."""

    reasons: dict[str, Reason]
    did: dict[str, str]
    hours: dict[str, int]
    parts: dict[str, str]
    weekdays: tuple[str, ...] = Field(min_length=7, max_length=7)
    days: tuple[Days, ...] = Field(min_length=1)
    list: str
    joined: str
    empty: str
    something: str
    untitled: str
    longest: int = Field(ge=5)
    polish: Polish

    @field_validator("reasons", "did")
    @classmethod
    def _others_too(cls, v: dict[str, Any]) -> dict[str, Any]:
        if OTHER not in v:
            raise ValueError(f"the row {OTHER!r} is missing: it stands for what is not named")
        return {k.casefold(): said for k, said in v.items()}

    @field_validator("hours", "parts")
    @classmethod
    def _every_part(cls, v: dict[str, Any]) -> dict[str, Any]:
        if set(v) != set(PARTS):
            raise ValueError(f"name {', '.join(PARTS)}, each once")
        return v

    @field_validator("days")
    @classmethod
    def _from_today(cls, v: tuple[Days, ...]) -> tuple[Days, ...]:
        since = [d.since for d in v]
        if since[0] != 0 or sorted(set(since)) != since:
            raise ValueError("rows start at since: 0 and rise")
        return v

    @field_validator("list")
    @classmethod
    def _list(cls, v: str) -> str:
        return _names(v, "items")

    @field_validator("untitled")
    @classmethod
    def _untitled(cls, v: str) -> str:
        return _names(v, "item_id")

    def reason(self, code: str) -> Reason:
        """How a reason code is said."""
        return self.reasons.get(code.casefold()) or self.reasons[OTHER]

    def verb(self, event_type: str | None) -> str:
        """What the user did, in words."""
        return self.did.get((event_type or OTHER).casefold()) or self.did[OTHER]


def phrases_of(language: str | Path) -> Phrases:
    """The phrases of a shipped language (`en`, `zh`) or of a YAML file.  Raises PhraseError."""
    where, body = _read(language)
    try:
        return Phrases.model_validate(body)
    except ValidationError as e:
        lines = [f"  {'.'.join(map(str, x['loc'])) or '(top)'}: {x['msg'].removeprefix('Value error, ')}" for x in e.errors()]
        raise PhraseError(f"{where}:\n" + "\n".join(lines)) from e


def shipped() -> tuple[str, ...]:
    """The languages that come with the package."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml")))


def _folder() -> Any:
    return resources.files("recs.configs").joinpath("phrases")


def _read(language: str | Path) -> tuple[str, dict[str, Any]]:
    place = _folder().joinpath(f"{language}.yaml") if language in shipped() else Path(language)
    if not place.is_file():
        known = ", ".join(shipped())
        raise PhraseError(f"no phrases {str(language)!r}: name one of {known}, or a YAML file that starts with `extends: en`")
    try:
        body = yaml.safe_load(place.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise PhraseError(f"{place}: not YAML: {e}") from e
    if not isinstance(body, dict):
        raise PhraseError(f"{place}: expected keys and values")
    base = body.pop("extends", None)
    if base is None:
        return str(place), body
    if base not in shipped():
        raise PhraseError(f"{place}: extends {base!r}; there are {', '.join(shipped())}")
    return str(place), _over(_read(base)[1], body)


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` upon `base`, key by key."""
    both = {k: _over(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in top.items()}
    return {**base, **both}
