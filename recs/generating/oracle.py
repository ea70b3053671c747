"""The oracle: what each user would choose after a cut, knowing everything the generator knows at the cut.

    intensity(u, i) = expected number of target visits of user u to item i in [cut, cut + horizon), given u's state at the cut

The state (last item, stock, times) is that of the real log.  From it, every user lives `rollouts` possible futures with the
same code that made the log; at each of their visits the probabilities of all choices are added up, not only the choice made
(Rao-Blackwell).  Groups are added up as groups and opened at the end: an item outside the user's single columns can only be in
a top 20 if it is among the most appealing of its group.

The number of futures matters: what follows a lucky draw of one future wins a place in the list.  Hits over intensities of the
lists, and NDCG@10, on a shop log of 20,000 events: 8 futures .70 and .284, 32 .89 and .368, 128 .97 and .391, 512 1.00 and .397.
With the default of 256 a user and cut cost about a millisecond.

Where the preset says `once`, the intensity of an item counts visits as if those of the same window did not use it up.

A session that is open at the cut is taken as closed: one visit in a hundred.
"""
from __future__ import annotations

import numpy as np
import pandas as pd

from . import draws as rng
from .choices import GROUP_COLUMNS, SOURCE_OF_COLUMN, Draws, Mixture, State, walk
from .log import item_ids, user_ids
from .people import People, make_people, miss_chance, rows, visit_times
from .settings import MATCH, SOURCES, GenerateConfig
from .world import World

K = 20
LANES = 32_768      # futures lived at a time: 38 weights of 8 bytes each make 10 MB
DDL = "cut_us bigint, user_id string, rank int, item_id string, intensity double"


def target_chance(config: GenerateConfig) -> np.ndarray:
    """[sources] chance that a visit from this source has an event of a target type."""
    first = next(k for k, kind in enumerate(config.meaning.kinds) if kind.target)   # later kinds of the chain come only after this one
    chances = [kind.chance for kind in config.meaning.kinds[1 : first + 1]]
    return np.array([(1 - miss_chance(config, s)) * np.prod([min(c * MATCH[s], 1.0) for c in chances]) for s in SOURCES])


def block_lists(world: World, number: np.ndarray, eyes: World | None = None) -> pd.DataFrame:
    """The lists of these users at every cut of the configuration.

    `eyes`: another world, same but for effects that are off, by which the futures are judged: what this oracle loses is what
    seeing those effects is worth.
    """
    config = world.config
    people = make_people(world, number)
    visits = visit_times(world, people, number, 0.0, float(config.days))
    state, begin, out = State.new(len(number), world.preset.once), visits.offsets[:-1], []
    for cut in config.cut_times:
        t = (cut - config.start).total_seconds() / 86400
        end = _first_at(visits, t)
        state = walk(world, people, state, visits, number, begin, end, _unseen)
        begin = end
        out.append(_lists(eyes or world, people, state, t).assign(cut_us=round(cut.timestamp() * 1e6)))
    return pd.concat(out, ignore_index=True)[["cut_us", "user_id", "rank", "item_id", "intensity"]]


def _unseen(*_: object) -> None:
    """The log was written before; here only the states count."""


def _first_at(visits, t: float) -> np.ndarray:
    """[B] position of every user's first visit at or after t."""
    before = np.bincount(visits.user[visits.t < t], minlength=len(visits.offsets) - 1)
    return visits.offsets[:-1] + before


class Tally:
    """Adds up weights by (user, item) and by (user, slot, group); memory is bounded by folding equal keys together."""

    FOLD = 4_000_000

    def __init__(self) -> None:
        self.keys: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self.size = 0

    def add(self, key: np.ndarray, weight: np.ndarray) -> None:
        """Count weight for keys; zero weights are left out."""
        used = weight > 0
        self.keys.append(key[used])
        self.weights.append(weight[used])
        self.size += int(used.sum())
        if self.size > self.FOLD:
            key, weight = self.sums()
            self.keys, self.weights, self.size = [key], [weight], len(key) // 2

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct keys, ascending, with their sums."""
        if not self.keys:
            return np.empty(0, np.int64), np.empty(0)
        key, weight = np.concatenate(self.keys), np.concatenate(self.weights)
        distinct, place = np.unique(key, return_inverse=True)
        return distinct, np.bincount(place, weight, minlength=len(distinct))


def _lists(world: World, people: People, state: State, t: float) -> pd.DataFrame:
    """The lists as of day `t` of users that stand in `state`; users without a history get none."""
    known = np.flatnonzero(state.last >= 0)
    step = max(1, LANES // world.config.rollouts)
    parts = [_lists_of(world, rows(people, some), rows(state, some), t) for some in np.split(known, range(step, len(known), step))]
    return pd.concat(parts, ignore_index=True)


def _lists_of(world: World, people: People, state: State, t: float) -> pd.DataFrame:
    config = world.config
    lanes = np.repeat(np.arange(len(people.number)), config.rollouts)
    # the futures' random numbers: named by user, cut and rollout, far from the users' own
    name = rng.hashed(config.seed, "oracle", people.number[lanes], np.full(len(lanes), round(t * 86400)),
                      np.tile(np.arange(config.rollouts), len(people.number)))
    who, now = rows(people, lanes), rows(state, lanes)
    visits = visit_times(world, who, name, t, t + config.horizon)
    chance = target_chance(config)[SOURCE_OF_COLUMN] / config.rollouts
    single, grouped = Tally(), Tally()

    def seen(_visit: np.ndarray, lane: np.ndarray, mix: Mixture, _made: Draws) -> None:
        user, weight = lanes[lane][:, None], mix.weight * chance
        single.add((user * config.items + mix.item).ravel(), weight[:, GROUP_COLUMNS:].ravel())
        where = (user * world.n_slots + mix.slot[:, None]) * world.n_groups + mix.group
        grouped.add(where.ravel(), weight[:, :GROUP_COLUMNS].ravel())

    walk(world, who, now, visits, name, visits.offsets[:-1], visits.offsets[1:], seen)
    candidates, intensity = _open(world, single.sums(), grouped.sums())
    return _ranked(world, people, state, candidates // config.items, candidates % config.items, intensity)


def _open(world: World, single: tuple[np.ndarray, np.ndarray], grouped: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Candidates (user * items + item, ascending) and their intensities: single columns plus their share of every group they are in."""
    n_items, key, weight = world.config.items, *grouped
    user, slot, group = key // (world.n_slots * world.n_groups), key // world.n_groups % world.n_slots, key % world.n_groups
    top = _most_appealing(world, np.unique(slot * world.n_groups + group))
    at = top[slot * world.n_groups + group] if len(key) else np.empty((0, 1), np.int64)
    opened = np.where(at >= 0, user[:, None] * n_items + at, -1).ravel()
    candidates = np.unique(np.concatenate([single[0], opened[opened >= 0]]))
    intensity = np.zeros(len(candidates))
    if len(single[0]):
        intensity[np.searchsorted(candidates, single[0])] = single[1]
    item, slots = candidates % n_items, np.unique(slot)
    for s in slots:
        per_appeal = world.appeal(item, np.full(len(item), s))
        for f in range(4):
            g = world.groups_of(item)[:, f]
            wanted = (candidates // n_items * world.n_slots + s) * world.n_groups + g
            place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
            total = world.total[s, g]
            intensity += np.where((key[place] == wanted) & (total > 0), weight[place] * per_appeal / np.where(total > 0, total, 1.0), 0.0)
    return candidates, intensity


class _Top(dict):
    """slot * groups + group -> its most appealing items; indexed by arrays."""

    def __getitem__(self, key: np.ndarray) -> np.ndarray:
        distinct, place = np.unique(key, return_inverse=True)
        return np.stack([dict.__getitem__(self, int(k)) for k in distinct])[place]


def _most_appealing(world: World, wanted: np.ndarray) -> _Top:
    """K + 20 items of each wanted (slot, group), -1 where it has fewer: the stock of a `once` preset takes some away."""
    out, width = _Top(), K + 20
    for k in wanted:
        lo, hi = np.searchsorted(world.key, [k, k + 1], side="right")
        items = world.key_item[lo:hi]
        value = world.appeal(items, np.full(len(items), k // world.n_groups))
        best = items[np.lexsort((items, -value))[:width]]
        out[int(k)] = np.pad(best.astype(np.int64), (0, width - len(best)), constant_values=-1)
    return out


def _ranked(world: World, people: People, state: State, user: np.ndarray, item: np.ndarray, intensity: np.ndarray) -> pd.DataFrame:
    """The best K of every user; ties by item id."""
    config = world.config
    allowed = intensity > 0
    if world.preset.items_are_users:
        allowed &= people.number[user] != item
    if world.preset.once:
        allowed &= world.items.repeatable[item] | ~state.has_met(user, item)
    user, item, intensity = user[allowed], item[allowed], intensity[allowed]
    order = np.lexsort((item, -intensity, user))
    user, item, intensity = user[order], item[order], intensity[order]
    counts = np.bincount(user, minlength=len(people.number))
    rank = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    best = rank <= K
    return pd.DataFrame({
        "user_id": user_ids(config, people.number[user[best]]), "rank": rank[best].astype(np.int32),
        "item_id": item_ids(config, item[best]), "intensity": intensity[best],
    })
