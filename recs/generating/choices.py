"""What a user chooses at a visit: a mixture over groups of items and single items, drawn visit by visit.

At time t a user in a state (last item and its time, the last R distinct items with their times) has 13 groups and 9 + R single
items, each with a weight; the weights sum to one.  The choice takes a column, and in a group an item by its appeal:

    column   0       1 … 4      5 … 6   7 … 12               13 … 18                     19 … 21        22 …
             every-  interests  themes  cells near home and  leaders of the last topic,  successors of  the stock: last R
             thing              liked   near the last item   leaders of its partner      the last item  distinct items
    source   popular interest   theme   near                 gap                         follow         repeat

The walk is in step: all users of a block make their first visit, then all their second, so that numpy works on whole columns.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import draws as rng
from .people import INTERESTS, People, Visits, rows
from .settings import SOURCES
from .world import LEADERS, N_THEMES, SUCCESSORS, World

STOCK = 16
# the stock of a user whose items are all exactly due speaks with D / (D + DUE_HALF) of the repeat share
DUE_HALF, DUE_SPREAD = 0.4, 0.35
# with rhythm off every item of the stock is as due as any, so that about as many visits are repeats
DUE_FLAT = 0.25
TRIES = 12
MEMORY = 128        # items a user of a `once` preset remembers having met
# columns of each source, in the order of SOURCES
POPULAR, INTEREST, THEME, NEAR, GAP, FOLLOW, REPEAT = (
    slice(0, 1), slice(1, 5), slice(5, 7), slice(7, 13), slice(13, 19), slice(19, 22), slice(22, 22 + STOCK))
SOURCE_OF_COLUMN = np.repeat(range(len(SOURCES)), [1, INTERESTS, 2, 6, 6, 3, STOCK])
GROUP_COLUMNS = GAP.start


@dataclass(frozen=True)
class State:
    """[B] users just before their next visit; -1 = none."""

    last: np.ndarray        # item
    last_t: np.ndarray
    stock: np.ndarray       # [B, R] distinct items
    stock_t: np.ndarray     # [B, R] when each was met last
    stock_n: np.ndarray     # [B, R] how often
    met: np.ndarray         # [B, MEMORY] items met, as a ring; no columns where items may be met again
    n_met: np.ndarray       # [B]

    @classmethod
    def new(cls, n: int, once: bool) -> State:
        """The state of n users before their first visit."""
        return cls(
            np.full(n, -1), np.zeros(n), np.full((n, STOCK), -1), np.full((n, STOCK), -np.inf), np.zeros((n, STOCK)),
            np.full((n, MEMORY if once else 0), -1, np.int32), np.zeros(n, np.int64),
        )

    def meet(self, item: np.ndarray, t: np.ndarray) -> None:
        """Take in one visit each, in place; an item that is not in the stock replaces the one met longest ago."""
        known = self.stock == item[:, None]
        place = np.where(known.any(axis=1), known.argmax(axis=1), self.stock_t.argmin(axis=1))
        lane = np.arange(len(item))
        self.stock_n[lane, place] = np.where(self.stock[lane, place] == item, self.stock_n[lane, place] + 1, 1)
        self.stock[lane, place], self.stock_t[lane, place] = item, t
        self.last[:], self.last_t[:] = item, t
        if self.met.shape[1]:
            self.met[lane, self.n_met % MEMORY] = item
            self.n_met[:] += 1

    def has_met(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """[N] does user `user` remember `item`?"""
        return (self.met[user] == item[:, None]).any(axis=1)


@dataclass(frozen=True)
class Mixture:
    """[B] choices before they are made; the weights sum to 1."""

    slot: np.ndarray
    group: np.ndarray       # [B, 13]
    item: np.ndarray        # [B, 9 + R]; -1 = none
    weight: np.ndarray      # [B, 22 + R]


@dataclass(frozen=True)
class Draws:
    """[B] choices made."""

    item: np.ndarray
    column: np.ndarray


def mixture(world: World, who: People, state: State, t: np.ndarray, clock: np.ndarray) -> Mixture:
    """The weights of every column at time `t`, given the state."""
    share, slot = world.config.shares, world.slot(t)
    weight = np.zeros((len(t), len(SOURCE_OF_COLUMN)))
    known = (state.last >= 0)[:, None]
    last = np.maximum(state.last, 0)

    group = _groups(world, who, np.where(known[:, 0], world.items.cell[last], who.cell), weight)
    weight[:, INTEREST] = interests(world, who, t, clock)
    weight[:, :GROUP_COLUMNS] *= world.total[slot[:, None], group] > 0      # a group without an alive item cannot be chosen
    _scale(weight[:, INTEREST], share["interest"])

    leaders, weight[:, GAP] = _leaders(world, last, t - state.last_t, slot)
    weight[:, GAP] *= share["gap"] * known
    successors = world.items.successor[last]
    weight[:, FOLLOW] = share["follow"] * SUCCESSORS * known * world.alive(successors, slot[:, None])
    if share["repeat"]:
        due = dueness(world, state, t, clock, slot)
        weight[:, REPEAT] = share["repeat"] * due / (due.sum(axis=1, keepdims=True) + DUE_HALF)
    weight /= weight.sum(axis=1, keepdims=True)
    return Mixture(slot, group, np.concatenate([leaders, successors, state.stock], axis=1), weight)


def _groups(world: World, who: People, here: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Groups [B, 13] of everything, interests, themes and cells near home and near `here`; fills the weights that never change."""
    share, k, cells = world.config.shares, world.n_topics, world.cells
    group = np.zeros((len(here), GROUP_COLUMNS), np.int64)
    group[:, INTEREST] = 1 + who.interest
    group[:, THEME] = 1 + k + who.theme
    group[:, NEAR] = 1 + k + N_THEMES + np.concatenate([cells.near[who.cell], cells.near[here]], axis=1)
    weight[:, POPULAR] = share["popular"]
    weight[:, THEME] = share["theme"] * np.array([0.65, 0.35])
    weight[:, NEAR] = share["near"] * 0.5 * np.concatenate([cells.near_weight[who.cell], cells.near_weight[here]], axis=1)
    return group


def _leaders(world: World, last: np.ndarray, gap: np.ndarray, slot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaders [B, 6] of the last item's topic and of its partner, and their weights.

    The topic has exp(-gap / its time constant), the partner the rest; with the effect off both have half, whatever the gap.
    """
    topic = world.items.topic[last]
    both = np.stack([topic, world.topics.partner[topic]], axis=1)
    items = world.leader[slot[:, None], both].reshape(len(last), -1)
    stay = np.exp(-gap / world.topics.stay[topic]) if world.config.has("gap") else np.full(len(last), 0.5)
    weight = np.concatenate([stay[:, None] * LEADERS, (1 - stay)[:, None] * LEADERS], axis=1)
    return items, weight * (items >= 0)


def interests(world: World, who: People, t: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """[B, 4] exp(liking + drift sin(2 pi t / period + phase)) times the topic's liking of the hour; not normalised."""
    drift = who.drift * np.sin(2 * np.pi * t[:, None] / who.drift_period + who.drift_phase)
    return np.exp(who.liking + drift) * world.topics.clock[who.interest, clock[:, None]]


def dueness(world: World, state: State, t: np.ndarray, clock: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """[B, R] how due every item of the stock is: a bump around one period after it was met, times its topic's liking of the hour."""
    item = np.maximum(state.stock, 0)
    if world.config.has("rhythm"):
        periods = np.maximum(t[:, None] - state.stock_t, 1e-6) / world.items.period[item]
        with np.errstate(divide="ignore"):
            due = np.exp(-0.5 * (np.log(periods) / DUE_SPREAD) ** 2)
    else:
        due = np.full(item.shape, DUE_FLAT)
    possible = (state.stock >= 0) & world.items.repeatable[item] & world.alive(item, slot[:, None])
    return due * np.sqrt(state.stock_n) * world.topics.clock[world.items.topic[item], clock[:, None]] * possible


def _scale(weight: np.ndarray, total: float) -> None:
    """Make every row sum to `total`, in place; rows of zeros stay."""
    sums = weight.sum(axis=1, keepdims=True)
    weight *= np.where(sums > 0, total / np.where(sums > 0, sums, 1.0), 0.0)


def choose(world: World, mix: Mixture, state: State, lane: np.ndarray, nth: np.ndarray) -> Draws:
    """One item each.  Where the preset says `once`, an item met before that is not repeatable is passed over, up to eleven times."""
    seed = world.config.seed
    item, column = np.full(len(lane), -1), np.zeros(len(lane), np.int64)
    todo = np.arange(len(lane))
    cum = np.cumsum(mix.weight, axis=1)
    for attempt in range(TRIES):
        u = rng.uniform(seed, f"choice.column{attempt}", lane[todo], nth[todo])
        column[todo] = np.minimum((cum[todo] <= (u * cum[todo, -1])[:, None]).sum(axis=1), mix.weight.shape[1] - 1)
        single = column[todo] >= GROUP_COLUMNS
        item[todo] = mix.item[todo, np.maximum(column[todo] - GROUP_COLUMNS, 0)]
        grouped = todo[~single]
        v = rng.uniform(seed, f"choice.item{attempt}", lane[grouped], nth[grouped])
        item[grouped] = world.pick(mix.slot[grouped], mix.group[grouped, column[grouped]], v)
        if not world.preset.once:
            break
        again = state.has_met(todo, item[todo]) & ~world.items.repeatable[item[todo]]
        todo = todo[again]
        if not len(todo):
            break
    return Draws(item, column)


def probability(world: World, mix: Mixture, item: np.ndarray) -> np.ndarray:
    """Probability [B] of one item each: single columns that hold it, and its share of the groups it is in."""
    single = (mix.weight[:, GROUP_COLUMNS:] * (mix.item == item[:, None])).sum(axis=1)
    mine = world.groups_of(item)
    inside = (mix.group[:, :, None] == mine[:, None, :]).any(axis=2)
    total = world.total[mix.slot[:, None], mix.group]
    per_appeal = (mix.weight[:, :GROUP_COLUMNS] * inside / np.where(total > 0, total, 1.0)).sum(axis=1)
    return single + per_appeal * world.appeal(item, mix.slot)


def walk(
    world: World, people: People, state: State, visits: Visits, lane: np.ndarray, start: np.ndarray, stop: np.ndarray,
    seen: Callable[[np.ndarray, np.ndarray, Mixture, Draws], None],
) -> State:
    """Let every user make the visits start:stop (positions in `visits`, [B] each) and return the states after them.

    `seen(visit, user, mixture, draws)` is called once per step with the users that still come.
    """
    count = stop - start
    order = np.argsort(-count, kind="stable")      # those who come most often first: the users of a step are a slice
    who, now = rows(people, order), rows(state, order)
    count, begin, t = count[order], start[order], visits.t
    ordinal = begin - visits.offsets[order]
    for step in range(int(count[0]) if len(count) else 0):
        n = int(np.searchsorted(-count, -step, side="left"))
        visit, here = begin[:n] + step, rows(now, slice(0, n))
        mix = mixture(world, rows(who, slice(0, n)), here, t[visit], visits.clock[visit])
        made = choose(world, mix, here, lane[order[:n]], ordinal[:n] + step)
        seen(visit, order[:n], mix, made)
        here.meet(made.item, t[visit])
    back = np.argsort(order, kind="stable")
    return rows(now, back)
