"""The evidence: what speaks for each candidate of each user, as numbers; the same code where examples are staged and lists are made.

    histories, request time, item tables as of the cut, candidates
      own       what the user did with the item himself             recs/evidence/own.py
      crowd     what everybody does with it lately                  recs/evidence/crowd.py
      spoken    what his other items say                            recs/evidence/spoken.py
      place     how far it is from where he has been                recs/evidence/place.py
      person    what kind of user, what hour                        recs/evidence/person.py
    -> [P, F] float32

Columns come by family, so that a model can be trained without one (`--set family=false`): own, repeat, due, clock, static, popularity,
trend, neighbours, place, user, user_time.  TIME names those that know a clock: without them a model only counts and knows the order.
Raw values stand beside values relative to the list (share of the greatest, rank): the latter carry over between cuts.

A user's rows depend on his own history, request and candidates alone, bit for bit.

Shapes: U users, P pairs (user, candidate), F features, I items.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import crowd, own, person, place, spoken
from .candidates import Mask, Pairs, candidates
from .histories import Histories
from .item_tables import ItemTables
from .own import Own, rank_within
from .spoken import Spoken

FAMILIES = ("own", "repeat", "due", "clock", "static", "popularity", "trend", "neighbours", "place", "user", "user_time")
TIME = frozenset({"repeat", "due", "clock", "popularity", "trend", "user_time"})
# where the user never met the item; every other feature of its own is 0 there
_NEVER = {name: float(np.log1p(own.NEVER_D)) for name in ("age", "first_age", "gap")} | dict.fromkeys(
    ("events_back", "days_back", "rank_decay", "rank_age", "rank_days"), float(np.log1p(1000)))
_IN_LIST = ("users_1d", "users_3d", "users_28d", "users_all")   # statistics whose rank among the candidates is a feature too
_IN_LIST_FAMILY = {"users_all": "static"}


@dataclass(frozen=True)
class Recipe:
    """Which evidence: the families left in, the voices asked, how many candidates each source proposes, what the log allows."""

    families: frozenset[str] = frozenset(FAMILIES)
    voices: tuple[str, ...] = spoken.VOICES
    each: int = 40
    repeats: bool = True
    horizon_us: int = 86_400_000_000

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Item tables that are read."""
        return frozenset(voice.partition("@")[0] for voice in self.voices)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the F columns, in order."""
        in_list = {f"{s}_in_list": _IN_LIST_FAMILY.get(s, "popularity") for s in _IN_LIST}
        every = {**own.NAMES, **crowd.NAMES, **in_list, **person.NAMES, **place.NAMES}
        chosen = [name for name, family in every.items() if family in self.families]
        if not self.repeats:    # items that may be listed are new to the user
            chosen = [name for name in chosen if name not in own.NAMES]
        if "neighbours" in self.families:
            chosen += [f"{voice}{part}" for voice in self.voices for part in ("", ":share", ":rank")]
        return tuple(chosen)


@dataclass(frozen=True)
class Evidence:
    """Candidates of some users and what speaks for each."""

    pairs: Pairs
    values: np.ndarray      # [P, F] float32, columns as in `Recipe.names`


def gather(
    recipe: Recipe, histories: Histories, request_us: np.ndarray, tables: ItemTables, forbidden: Mask | None = None,
    pairs: Pairs | None = None,
) -> Evidence:
    """Candidates (or the given `pairs`) of these users with their evidence."""
    mine = Own(histories, np.asarray(request_us), tables, recipe.horizon_us)
    said = Spoken(histories, np.asarray(request_us), tables, recipe.voices)
    if pairs is None:
        pairs = candidates(histories, tables, mine, said, forbidden, recipe.each, recipe.repeats)
    return Evidence(pairs, _columns(recipe, mine, said, pairs))


def _columns(recipe: Recipe, mine: Own, said: Spoken, pairs: Pairs) -> np.ndarray:
    user, column, wanted = pairs.user, pairs.column, {name: i for i, name in enumerate(recipe.names)}
    out = np.zeros((len(column), len(wanted)), np.float32)

    def put(name: str, values: np.ndarray) -> None:
        out[:, wanted[name]] = values

    if any(name in wanted for name in own.NAMES):
        cell = mine.find(user, column)
        met = cell >= 0
        for name, values in mine.features.items():
            if name in wanted:
                put(name, np.where(met, values[cell] if len(values) else 0.0, _NEVER.get(name, 0.0)))
    items = crowd.of_items(mine.tables)
    for name, values in items.items():
        if name in wanted:
            put(name, values[column])
    for name in _IN_LIST:
        if f"{name}_in_list" in wanted:
            put(f"{name}_in_list", np.log1p(rank_within(user, -items[name][column])))
    if "place" in recipe.families:
        for name, values in place.of_pairs(mine, pairs).items():
            put(name, values)
    for name, values in person.of_users(mine).items():
        if name in wanted:
            put(name, values[user])
    if "neighbours" in recipe.families:
        for voice, values in zip(said.voices, said.at(user, column), strict=True):
            most = np.zeros(len(pairs.offsets) - 1)
            np.maximum.at(most, user, values)
            put(voice, np.log1p(1000 * values))
            put(f"{voice}:share", values / np.maximum(most, 1e-12)[user])
            put(f"{voice}:rank", np.log1p(np.where(values > 0, rank_within(user, -values), 1000)))
    return out
