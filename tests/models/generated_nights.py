"""Generated logs, whose truth is known, as questions about their last nights: what a model closes of the way to the oracle.

    closed(model) = (NDCG of the model - of recent popularity) / (of the oracle - of recent popularity)

A log is made and asked without Spark: events of the last days of what recs.generate would write, item tables in plain pandas.  Every
night is asked at its cut; the oracle's lists are of the same cuts.  Differences are paired, intervals are over users.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from local_replay import LocalReplay, question

from recs.clock import micros
from recs.evidence.histories import Histories
from recs.evidence.item_kinds import TEXT
from recs.evidence.item_tables import ItemTables
from recs.generate import make_config
from recs.generating import log, oracle
from recs.generating.truth import texts
from recs.generating.world import build
from recs.judge.metrics import ndcg_of_hits
from recs.models import make
from recs.models.base import Model
from recs.models.fitting import Question
from recs.models.sequence_network import NUMBER, numbers_of

LOG = {"preset": "shop", "n_events": 60_000, "days": 90, "seed": 7}
NIGHTS, JUDGED = 14, 4          # the last JUDGED are judged, the others trained on
Lists = Callable[[int, Question], np.ndarray]


@dataclass
class Made:
    """A generated log as questions about its last nights, the latest first; `oracle`: lists of the judged ones, [U, 10] columns."""

    replay: LocalReplay
    oracle: dict[int, np.ndarray]
    events: pd.DataFrame        # user, item, ts; in the order of time

    @property
    def earlier(self) -> LocalReplay:
        """The nights before the judged ones, and what was known when the first of those began."""
        return self.replay.only(range(JUDGED, NIGHTS))

    @property
    def questions(self) -> dict[int, Question]:
        """Of the judged nights."""
        return self.replay.only(range(JUDGED)).questions

    def judged(self, lists: Lists, questions: dict[int, Question] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """NDCG@10 of every judged list (or of these questions'), and its user."""
        questions = questions or self.questions
        found = [ndcg_of_hits(q.hits(lists(n, q)), q.wanted) for n, q in questions.items()]
        return np.concatenate(found), np.concatenate([q.histories.user_ids for q in questions.values()])

    @cached_property
    def first_events(self) -> dict[int, Question]:
        """The judged nights' users, each asked at the instant of his first event after the cut what that is: with a day's lists the
        hour does not matter, and neither does much whether the newest event is of this morning or of last week."""
        out = {}
        for n, q in self.questions.items():
            first = self.events[self.events.ts >= q.tables.cut_us].groupby("user").first()
            first = first.loc[[int(name[1:]) for name in q.histories.user_ids]]
            column = q.tables.columns(first.item.to_numpy())
            known = np.flatnonzero(column >= 0)
            request = first.ts.to_numpy()[known]
            out[n] = Question(q.histories.take(known), request, q.tables, None, np.arange(len(known)) * q.tables.n_items + column[known],
                              np.ones(len(known), np.int64), q.k)
        return out

    @cached_property
    def way(self) -> tuple[float, float]:
        """NDCG@10 of recent popularity and of the oracle."""
        recent = make("recent_popularity", {"stat": "decay_3d"})
        return self.judged(of(recent))[0].mean(), self.judged(lambda n, q: self.oracle[n])[0].mean()

    def closed(self, found: np.ndarray) -> float:
        """The share of the way that a model's NDCG@10 of the judged lists goes."""
        popular, best = self.way
        return (found.mean() - popular) / (best - popular)


def made(folder: Path, kinds: tuple[str, ...], hide_seen: bool = False, **settings) -> Made:
    """The log of these settings of the generator, with item tables of these kinds, and places where its items have them; with
    `hide_seen` lists are of items that their user has not met."""
    plain = make_config(**settings)
    cuts = [plain.stop - timedelta(days=n + 1) for n in range(NIGHTS)]
    config = make_config(**settings, cuts=tuple(cuts[:JUDGED]), rollouts=64)
    world = build(config)
    rows = pd.concat([log.block_rows(world, b) for b in range(log.user_blocks(config))], ignore_index=True)
    frame = pd.DataFrame({
        "user": rows.user_id.str[1:].astype(int), "item": rows.item_id.str[1:].astype(int), "ts": rows.ts_ms.to_numpy(np.int64) * 1000,
    }).sort_values(["user", "ts"], ignore_index=True, kind="stable")
    where = np.stack([world.items.lat, world.items.lon], axis=1) if config.meaning.placed else np.full((len(world.items.lat), 2), np.nan)
    said = list(map(" ".join, zip(*texts(world, np.arange(len(world.items.lat))), strict=True))) if "text" in kinds else []
    more = {"place": where.__getitem__, "said": said.__getitem__}
    asked = {n: question(frame, micros(cut), folder / f"cut-{n}", kinds, hide_seen, **more) for n, cut in enumerate(cuts)}
    asked = {n: replace(q, histories=placed(q.histories, where)) for n, q in asked.items()}
    then = frame[frame.ts < micros(cuts[JUDGED - 1])]
    known = placed(Histories.of(**{f"u{u:03d}": list(zip(g.item, g.ts, strict=True)) for u, g in then.groupby("user")}), where)
    lists = pd.concat([oracle.block_lists(world, log.users_of(config, b)) for b in range(log.user_blocks(config))])
    lists = lists[lists["rank"] <= 10]
    best = {}
    for n in range(JUDGED):
        q = asked[n]
        mine = lists[lists.cut_us == q.tables.cut_us]
        table = np.full((len(q.histories), 10), -1)
        place = {f"u{int(u[1:]):03d}": mine_ for u, mine_ in mine.groupby("user_id")}
        for row, name in enumerate(q.histories.user_ids):
            if (one := place.get(name)) is None:    # no visit before the cut, by the oracle's reckoning
                continue
            table[row, one["rank"].to_numpy() - 1] = q.tables.columns(one.item_id.str[1:].astype(int).to_numpy())
        best[n] = table
    return Made(LocalReplay(asked, tuple(micros(c) for c in cuts), histories=known), best, frame)


def placed(histories: Histories, where: np.ndarray) -> Histories:
    """Events happen where their items are."""
    lat, lon = where[histories.item].T.astype(np.float32)
    return replace(histories, lat=lat, lon=lon)


def of(model: Model) -> Lists:
    """The lists of a model."""
    return lambda n, q: q.lists(model)


def other_times(q: Question, seed: int = 0) -> Question:
    """The same items in the same order, but the gaps between a user's events change places: whatever tells when is wrong."""
    h, rng = q.histories, np.random.default_rng(seed)
    ts = h.ts.copy()
    for a, b, asked_us in zip(h.offsets[:-1], h.offsets[1:], q.request_us, strict=True):
        gaps = np.diff(np.append(ts[a:b], asked_us))
        ts[a:b] = asked_us - np.cumsum(rng.permutation(gaps)[::-1])[::-1]
    return replace(q, histories=replace(h, ts=ts))


def other_places(q: Question, seed: int = 0) -> Question:
    """The same items at the same times, but the places of all events change places."""
    at = np.random.default_rng(seed).permutation(len(q.histories.item))
    return replace(q, histories=replace(q.histories, lat=q.histories.lat[at], lon=q.histories.lon[at]))


class OtherWords(ItemTables):
    """Item tables in which the words of items that a model was not trained on change places; the others keep theirs, by which the model
    may know them."""

    def __init__(self, tables: ItemTables, number: np.ndarray) -> None:
        super().__init__(tables.path)
        self.number = number

    @property
    def version(self) -> str:
        return f"{super().version}-other-words"

    def dense(self, kind: str) -> np.ndarray:
        found = super().dense(kind)
        if kind != TEXT:
            return found
        new = np.flatnonzero(numbers_of(np.asarray(self.array("item_index")), self.number) == 0)
        found = np.array(found)
        found[new] = found[np.random.default_rng(0).permutation(new)]
        return found


def other_words(q: Question, model: Model) -> Question:
    """The same histories; items that came after the model was trained say what another of them does."""
    return replace(q, tables=OtherWords(q.tables, model.weights[NUMBER]))


def interval(difference: np.ndarray, users: np.ndarray, draws: int = 500) -> tuple[float, float, float]:
    """Mean and 95 % interval, drawn over users."""
    _, user = np.unique(users, return_inverse=True)
    total, count = np.bincount(user, difference), np.bincount(user)
    weights = np.random.default_rng(1).multinomial(len(total), np.full(len(total), 1 / len(total)), draws)
    means = weights @ total / (weights @ count)
    return float(difference.mean()), *np.quantile(means, [0.025, 0.975])
