"""Users and when they come.  What a user is depends on the seed and the user's number only; so do the visits.

Visits are sessions of a Poisson process whose rate is the user's activity times a weekly and a daily profile on the user's
own wall clock; a session is a geometric number of visits with exponential gaps.  Times do not depend on what is chosen.
"""
from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from scipy.special import ndtri
from scipy.stats import poisson

from . import draws as rng
from .settings import MATCH, GenerateConfig
from .words import SEGMENTS
from .world import FAR, N_THEMES, World, active_days, home_cell

INTERESTS = 4
MAX_SESSION = 60
MS = 86_400_000.0


@dataclass(frozen=True)
class People:
    """[B] users; days are counted from the start of the log."""

    number: np.ndarray
    activity: np.ndarray        # sessions per day while active
    join: np.ndarray
    leave: np.ndarray           # no visit from here on; FAR = never
    opt_out: np.ndarray         # no list wanted from here on; FAR = never
    segment: np.ndarray
    cell: np.ndarray            # home
    zone: np.ndarray
    week: np.ndarray            # [B, 7] Monday first, mean 1
    day: np.ndarray             # [B, 24] local hours, sums to 1
    interest: np.ndarray        # [B, 4] topics
    liking: np.ndarray          # [B, 4] log weight; -inf = has fewer interests
    drift: np.ndarray           # [B, 4] amplitude of the log weight
    drift_period: np.ndarray    # [B, 4]
    drift_phase: np.ndarray     # [B, 4]
    theme: np.ndarray           # [B, 2]


@dataclass(frozen=True)
class Visits:
    """[E] visits of B users, user after user, oldest first; user b owns offsets[b]:offsets[b + 1]."""

    offsets: np.ndarray
    user: np.ndarray    # 0..B-1
    ms: np.ndarray      # int64 milliseconds from the start of the log
    clock: np.ndarray   # 0..47: local hour, weekends from 24 on

    @property
    def t(self) -> np.ndarray:
        """Instants in days since the log began."""
        return self.ms / MS


T = TypeVar("T")


def rows(of: T, index: np.ndarray | slice) -> T:
    """The same dataclass of arrays with these rows; a slice gives views."""
    return replace(of, **{f.name: getattr(of, f.name)[index] for f in fields(of)})


def make_people(world: World, number: np.ndarray) -> People:
    """The users with these numbers (0 … users - 1)."""
    c, seed = world.config, world.config.seed
    u = _per_user(seed, number)
    segment = (len(SEGMENTS) * u("segment")).astype(int)
    cell = home_cell(c, world.cells, number)
    join, leave = active_days(c, number)
    opt_out = np.where(u("opt_out") < 0.02, np.where(u("opt_when") < 0.5, -FAR, c.days * u("opt_when")), FAR)
    return People(
        number=number, activity=_activity(world, number), join=join, leave=leave, opt_out=opt_out, segment=segment, cell=cell,
        zone=world.zone_of_city[world.cells.city[cell]], week=_week(u), day=_day(u), theme=np.stack(
            [(N_THEMES * u(f"theme{j}")).astype(int) for j in range(2)], axis=1),
        **_interests(world, number, segment),
    )


def _per_user(seed: int, number: np.ndarray):
    return lambda what: rng.uniform(seed, f"user.{what}", number)


def _raw_activity(seed: int, number: np.ndarray) -> np.ndarray:
    """Log-normal, mean about 1, at most 15; the quantiles are spread evenly over the users (golden ratio), so that their sum is stable."""
    q = (number * 0.6180339887498949 + rng.uniform(seed, "user.activity", 0)) % 1.0
    return np.minimum(np.exp(0.9 * ndtri(np.clip(q, 1e-9, 1 - 1e-9)) - 0.405), 15.0)


def _activity(world: World, number: np.ndarray) -> np.ndarray:
    return _raw_activity(world.config.seed, number) * _sessions_per_activity(world.config)


def _week(u) -> np.ndarray:
    """Weekdays one weight, weekends another: some users come to work, some come off work."""
    weekend = rng.between(u("weekend"), 0.3, 3.0)[:, None]
    week = np.where(np.arange(7) >= 5, weekend, 1.0)
    return week / week.mean(axis=1, keepdims=True)


def _day(u) -> np.ndarray:
    """One peak of the user's own hour and strength, over a floor."""
    peak, strength = 7 + 16 * u("peak"), 0.5 + 3.0 * u("strength")
    day = np.exp(strength[:, None] * (np.cos(2 * np.pi * (np.arange(24) - peak[:, None]) / 24) - 1)) + 0.01
    return day / day.sum(axis=1, keepdims=True)


def _interests(world: World, number: np.ndarray, segment: np.ndarray) -> dict[str, np.ndarray]:
    """Two to four topics, mostly of those the user's segment prefers; their weights swing with periods of their own."""
    seed, j = world.config.seed, np.arange(INTERESTS)[None, :]
    n = number[:, None]

    def u(what: str) -> np.ndarray:
        return rng.uniform(seed, f"user.interest.{what}", n, j)

    flat = np.broadcast_to(segment[:, None], (len(number), INTERESTS)).ravel()
    preferred = rng.pick_rows(u("preferred").ravel(), world.topics.by_segment, flat).reshape(-1, INTERESTS)
    anyone = rng.pick(u("any"), world.topics.share)
    count = 2 + (3 * rng.uniform(seed, "user.interest.count", number)).astype(int)
    return {
        "interest": np.where(u("from") < 0.6, preferred, anyone),
        "liking": np.where(j < count[:, None], -0.4 * j, -np.inf),
        "drift": np.full((len(number), INTERESTS), 1.3),
        "drift_period": rng.between(u("period"), 25.0, 150.0), "drift_phase": 2 * np.pi * u("phase"),
    }


@lru_cache(maxsize=2)
def _sessions_per_activity(config: GenerateConfig) -> float:
    """Sessions per day of a user of activity 1, so that the expected number of rows is n_events.  Measured on at most 20,000 users."""
    number = np.unique(np.linspace(0, config.users - 1, min(config.users, 20_000)).astype(np.int64))
    join, leave = active_days(config, number)
    begin, leave = np.maximum(join, 0), np.minimum(leave, config.days)
    user_days = (_raw_activity(config.seed, number) * (leave - begin)).mean() * config.users
    return config.n_events / rows_per_visit(config) / user_days / config.meaning.session_visits


def rows_per_visit(config: GenerateConfig) -> float:
    """Expected rows of a visit: its first event and what the chain adds, over the sources."""
    total = 0.0
    for source, share in config.shares.items():
        reach, added = 1.0 - miss_chance(config, source), 0.0
        for kind in config.meaning.kinds[1:]:
            reach *= min(kind.chance * MATCH[source], 1.0)
            added += reach
        total += share * (1.0 + added)
    return total


def miss_chance(config: GenerateConfig, source: str) -> float:
    """Chance that a visit from this source yields the preset's `miss` (a skip) instead of its chain."""
    miss = config.meaning.miss
    return min(miss.chance / MATCH[source], 1.0) if miss else 0.0


def visit_times(world: World, people: People, lane: np.ndarray, lo: float, hi: float) -> Visits:
    """The visits with lo <= t < hi.  `lane` [B] names the random numbers: the user's number for the log, anything else for a what-if."""
    seed, p = world.config.seed, world.preset
    day0, day1 = int(np.floor(lo)) - 1, int(np.ceil(hi)) + 1
    days = np.arange(day0, day1)
    active = (days + 0.5 >= people.join[:, None]) & (days + 0.5 < people.leave[:, None])
    rate = people.activity[:, None] * people.week[:, (days + world.first_weekday) % 7] * active
    sessions = poisson.ppf(rng.uniform(seed, "sessions", lane), rate.sum(axis=1)).astype(np.int64)
    sessions[rate.sum(axis=1) <= 0] = 0
    user = np.repeat(np.arange(len(lane)), sessions)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(sessions) - sessions, sessions)

    def u(what: str) -> np.ndarray:
        return rng.uniform(seed, f"session.{what}", lane[user], nth)

    day = days[rng.pick_rows(u("day"), rate, user)]
    hour = rng.pick_rows(u("hour"), people.day, user)
    zone = people.zone[user]
    offset = world.offset[zone, (day - world.offset_from) * 24 + hour]
    begin = day + (hour + u("minute")) / 24 - offset
    go_on = 1 - 1 / p.session_visits
    length = np.minimum(1 + np.floor(np.log(u("length")) / np.log(go_on)), MAX_SESSION).astype(int)
    k = np.arange(length.max() if len(length) else 1)
    # padded to the longest session: a running sum over the block would make one user's rounding depend on the others
    gap = 1.0 - p.visit_gap_s * np.log(rng.uniform(seed, "visit.gap", lane[user][:, None], nth[:, None], k[None, :]))
    gap[:, 0] = 0.0
    t = begin[:, None] + np.cumsum(gap, axis=1) / 86400.0
    keep = (k < length[:, None]) & (t >= lo) & (t < hi)
    return _sorted(world, len(lane), np.broadcast_to(user[:, None], t.shape)[keep], t[keep],
                   np.broadcast_to(offset[:, None], t.shape)[keep])


def _sorted(world: World, n: int, user: np.ndarray, t: np.ndarray, offset: np.ndarray) -> Visits:
    ms = np.floor(t * MS).astype(np.int64)
    order = np.lexsort((ms, user))
    local = (t + offset)[order]
    day = np.floor(local).astype(int)
    weekend = (day + world.first_weekday) % 7 >= 5
    clock = np.minimum((24 * (local - day)).astype(int), 23) + 24 * weekend
    counts = np.bincount(user, minlength=n)
    return Visits(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), user[order], ms[order], clock)
