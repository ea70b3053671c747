"""Everything that is not a user: topics, places, items and their appeal over time.  A pure function of the configuration.

Each worker builds it once (`build` remembers the last one).  For sampling, every slot of time (a day, or six hours for news) has
its alive items sorted by group; a group is everything, one topic, one theme or one cell.  The groups' distribution functions lie
one after another in one ascending array, so that a draw is one binary search:

    slot 0: [ everything | topic 0 | topic 1 | … | theme 0 | … | cell 0 | … ]   slot 1: [ everything | …
    key     0 < … <= 1     1 < … <= 2  …
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from . import draws as rng
from .settings import GenerateConfig, GenerateError, Preset
from .words import BRANDS, CITIES, SEGMENTS, THEMES, TOPICS

N_THEMES = len(THEMES)
N_CELLS = 24
SUCCESSORS = np.array([0.6, 0.3, 0.1])      # weights of the three items that may follow one
LEADERS = np.array([0.7, 0.2, 0.1])         # weights of the three items that lead a topic
FAR = 1e9       # days; "never"
KM_PER_DEGREE = 111.2


@dataclass(frozen=True)
class Topics:
    """[K] leaves of the category tree; large catalogues split every leaf into lines."""

    top: np.ndarray         # int
    leaf: np.ndarray        # str
    path: np.ndarray        # str, parts joined by /
    share: np.ndarray       # of the items
    partner: np.ndarray     # the topic that follows this one after a long gap
    stay: np.ndarray        # days; time constant of staying with this one
    clock: np.ndarray       # [K, 48] liking by local hour, weekdays then weekends; mean 1
    by_segment: np.ndarray  # [segments, K] share among the topics a segment prefers


@dataclass(frozen=True)
class Cells:
    """[C] places: neighbourhoods of one town, or three of each of eight cities."""

    city: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    share: np.ndarray       # of the users
    near: np.ndarray        # [C, 3] nearest cells, itself first
    near_weight: np.ndarray  # [C, 3] sums to 1


@dataclass(frozen=True)
class Items:
    """[I] items; days are counted from the start of the log."""

    topic: np.ndarray
    theme: np.ndarray
    brand: np.ndarray
    cell: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    base: np.ndarray        # appeal before time changes it
    birth: np.ndarray
    gone: np.ndarray
    first_slot: np.ndarray  # chosen in slots first_slot <= s < last_slot
    last_slot: np.ndarray
    half_life: np.ndarray
    burst_at: np.ndarray
    burst_height: np.ndarray    # 0 = none
    burst_width: np.ndarray
    period: np.ndarray
    repeatable: np.ndarray
    successor: np.ndarray   # [I, 3]
    price: np.ndarray


@dataclass(frozen=True)
class World:
    """Every item and topic of a log as arrays: a pure function of the settings, the same on every worker."""

    config: GenerateConfig
    preset: Preset
    n_slots: int
    topics: Topics
    cells: Cells
    items: Items
    zones: tuple[str, ...]
    zone_of_city: np.ndarray
    offset: np.ndarray          # [zones, local hours from `offset_from`] days east of UTC
    offset_from: int            # day of offset[:, 0]
    first_weekday: int          # weekday of day 0, Monday = 0
    key: np.ndarray             # [P] ascending; see above
    key_item: np.ndarray        # [P] int32
    total: np.ndarray           # [slots, groups] sum of appeal, 0 = nobody there
    leader: np.ndarray          # [slots, K, 3] the topic's most appealing items of the slot; -1 = has fewer

    @property
    def n_topics(self) -> int:
        """Number of topics."""
        return len(self.topics.top)

    @property
    def n_groups(self) -> int:
        """Number of groups whose appeal is totalled: topics, themes, cells."""
        return self.total.shape[1]

    def groups_of(self, item: np.ndarray) -> np.ndarray:
        """[…, 4]: everything, its topic, its theme, its cell."""
        i, k = self.items, self.n_topics
        return np.stack([np.zeros_like(item), 1 + i.topic[item], 1 + k + i.theme[item], 1 + k + N_THEMES + i.cell[item]], axis=-1)

    def slot(self, t: np.ndarray) -> np.ndarray:
        """Slot of a time in days; what lies beyond the last slot counts as the last."""
        return np.clip((t / self.preset.slot).astype(np.int64), 0, self.n_slots - 1)

    def alive(self, item: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """May the item be chosen in the slot?"""
        return (self.items.first_slot[item] <= slot) & (slot < self.items.last_slot[item])

    def appeal(self, item: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """base * trend at the middle of the slot; 0 before an item appears and after it is withdrawn."""
        i = self.items
        value = i.base[item] * trend(self.config, i, item, (slot + 0.5) * self.preset.slot)
        return np.where(self.alive(item, slot), value, 0.0)

    def pick(self, slot: np.ndarray, group: np.ndarray, u: np.ndarray) -> np.ndarray:
        """An item of the group, drawn by its appeal in the slot."""
        return self.key_item[np.searchsorted(self.key, slot * self.n_groups + group + u, side="left")]


def trend(config: GenerateConfig, items: Items, item: np.ndarray, t: np.ndarray) -> np.ndarray:
    """floor + (1 - floor) 2^(-age / half-life) + height exp(-((t - burst) / width)^2 / 2); 1 with the effect off."""
    if not config.has("trend"):
        return np.ones(np.broadcast_shapes(np.shape(item), np.shape(t)))
    floor = config.meaning.floor
    age = np.maximum(t - items.birth[item], 0.0)
    burst = items.burst_height[item] * np.exp(-0.5 * ((t - items.burst_at[item]) / items.burst_width[item]) ** 2)
    return floor + (1 - floor) * 2.0 ** (-age / items.half_life[item]) + burst


def _topics(config: GenerateConfig) -> Topics:
    seed, tops = config.seed, TOPICS[config.preset]
    lines = int(np.clip(config.items // 3000, 1, 20))
    rows = [(n, top, leaf, line) for n, (top, leaves) in enumerate(tops.items()) for leaf in leaves for line in range(lines)]
    k = len(rows)
    ids = np.arange(k)
    top = np.array([r[0] for r in rows])
    path = np.array([f"{r[1]}/{r[2]}" + (f"/line {r[3] + 1}" if lines > 1 else "") for r in rows], object)
    share = (1.0 + np.argsort(np.argsort(rng.uniform(seed, "topic.rank", ids)))) ** -0.5
    ring = np.argsort(rng.uniform(seed, "topic.ring", ids))
    partner = np.empty(k, int)
    partner[ring] = np.roll(ring, -1)
    hour, weekend = np.tile(np.arange(24), 2), np.repeat([0, 1], 24)
    peak = 24 * rng.uniform(seed, "topic.peak", ids)[:, None]
    weekend_liking = np.where(rng.uniform(seed, "topic.weekend", ids) < 0.5, 1.6, -1.2)[:, None]
    strength = 2.0 if config.emphasis == "clock" else 1.0
    clock = np.exp(strength * (0.9 * np.cos(2 * np.pi * (hour - peak) / 24) + weekend_liking * weekend))
    clock /= np.average(clock, axis=1, weights=np.where(weekend, 2.0, 5.0))[:, None]
    liked = top[None, :] % len(SEGMENTS) == np.arange(len(SEGMENTS))[:, None]
    return Topics(
        top=top, leaf=np.array([r[2] for r in rows], object), path=path, share=share / share.sum(), partner=partner,
        stay=rng.between(rng.uniform(seed, "topic.stay", ids), *config.meaning.stay),
        clock=clock if config.has("clock") else np.ones_like(clock), by_segment=liked * share,
    )


def _cells(config: GenerateConfig) -> Cells:
    seed, ids = config.seed, np.arange(N_CELLS)
    city = ids % config.meaning.cities
    centre = np.array([(lat, lon) for _, lat, lon, _, _ in CITIES])[city]
    angle, radius = 2 * np.pi * rng.uniform(seed, "cell.angle", ids), 7.0 * np.sqrt(rng.uniform(seed, "cell.radius", ids))
    lat = centre[:, 0] + radius * np.sin(angle) / KM_PER_DEGREE
    lon = centre[:, 1] + radius * np.cos(angle) / (KM_PER_DEGREE * np.cos(np.radians(centre[:, 0])))
    east = (lon[:, None] - lon) * np.cos(np.radians(lat))[:, None]
    km = KM_PER_DEGREE * np.hypot(lat[:, None] - lat, east)
    near = np.argsort(km, axis=1, kind="stable")[:, :3]
    weight = np.exp(-np.take_along_axis(km, near, 1) / 2.0)
    share = np.array([c[4] for c in CITIES])[city] * (0.5 + rng.uniform(seed, "cell.share", ids))
    return Cells(city, lat, lon, share / share.sum(), near, weight / weight.sum(1, keepdims=True))


def active_days(config: GenerateConfig, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[B] when these users join (-FAR: before the log) and leave (FAR: never).  One in seven goes dormant."""
    came, went = rng.uniform(config.seed, "user.join", number), rng.uniform(config.seed, "user.dormant", number)
    join = np.where(came < 0.7, -FAR, (came - 0.7) / 0.3 * 0.85 * config.days)
    begin = np.maximum(join, 0)
    return join, np.where(went < 0.15, begin + (config.days - begin) * rng.uniform(config.seed, "user.leave", number), FAR)


def home_cell(config: GenerateConfig, cells: Cells, number: np.ndarray) -> np.ndarray:
    """[B] where these users live."""
    return rng.pick(rng.uniform(config.seed, "user.cell", number), cells.share)


def _items(config: GenerateConfig, topics: Topics, cells: Cells) -> Items:
    p, seed, n = config.meaning, config.seed, config.items
    ids = np.arange(n)

    def u(what: str) -> np.ndarray:
        return rng.uniform(seed, f"item.{what}", ids)

    def spread(what: str, median: float, sigma: float) -> np.ndarray:
        return median * np.exp(sigma * rng.normal(seed, f"item.{what}", ids))

    topic, cell = rng.pick(u("topic"), topics.share), rng.pick(u("cell"), cells.share)
    birth = -p.born_before + u("birth") * (p.born_before + config.days)
    if p.items_are_users:       # where and since when the user is there
        join = active_days(config, ids)[0]
        birth = np.where(join > -FAR, join, -p.born_before * u("birth"))
        cell = home_cell(config, cells, ids)
    gone = birth + spread("life", p.life, 0.5)
    angle, radius = 2 * np.pi * u("angle"), 1.2 * np.sqrt(u("radius"))
    width = spread("burst_width", p.burst_width, 0.3)
    return Items(
        topic=topic, theme=(N_THEMES * u("theme")).astype(int), brand=(len(BRANDS) * u("brand") ** 2).astype(int), cell=cell,
        lat=cells.lat[cell] + radius * np.sin(angle) / KM_PER_DEGREE,
        lon=cells.lon[cell] + radius * np.cos(angle) / (KM_PER_DEGREE * np.cos(np.radians(cells.lat[cell]))),
        base=spread("base", 1.0, 1.2), birth=birth, gone=gone,
        first_slot=np.ceil(birth / p.slot).astype(int), last_slot=np.floor(np.minimum(gone, FAR) / p.slot).astype(int),
        half_life=spread("half_life", p.half_life, 0.5),
        burst_at=np.maximum(birth, 0) + u("burst_at") * (np.minimum(gone, config.days) - np.maximum(birth, 0)),
        burst_height=np.where(u("burst") < p.burst_share, spread("burst_height", p.burst_height, 0.4), 0.0), burst_width=width,
        period=rng.between(u("period"), *p.period), repeatable=u("repeatable") < p.repeatable,
        successor=_successors(config, topic, birth), price=np.round(rng.between(rng.uniform(seed, "topic.price", topic), 4, 150)
                                                                    * np.exp(0.4 * rng.normal(seed, "item.price", ids)), 2),
    )


def _successors(config: GenerateConfig, topic: np.ndarray, birth: np.ndarray) -> np.ndarray:
    """[I, 3] items of the same topic that follow: the next in order of birth where items live shortly, else any."""
    n = len(topic)
    order = np.lexsort((birth, topic))
    size = np.bincount(topic)
    start = np.concatenate([[0], np.cumsum(size)])[:-1]
    place = np.empty(n, int)
    place[order] = np.arange(n) - start[topic[order]]
    reach = 6 if config.meaning.life < config.days / 4 else n
    jump = np.minimum(reach, np.maximum(size[topic] - 1, 1))[:, None]
    u = rng.uniform(config.seed, "item.successor", np.arange(n)[:, None], np.arange(3)[None, :])
    step = 1 + (u * jump).astype(int)
    return order[start[topic][:, None] + (place[:, None] + step) % size[topic][:, None]]


def _group_tables(world: World) -> dict[str, np.ndarray]:
    """`key`, `key_item`, `total`, `leader` of the world; memory: 12 bytes per slot, alive item and family (48 in all)."""
    families = world.groups_of(np.arange(world.config.items))       # [I, 4]
    n_groups = 1 + world.n_topics + N_THEMES + N_CELLS
    by_family = [np.argsort(families[:, f], kind="stable") for f in range(4)]
    keys, picked, total = [], [], np.zeros((world.n_slots, n_groups))
    leader = np.full((world.n_slots, world.n_topics, 3), -1)
    for s in range(world.n_slots):
        value = world.appeal(np.arange(world.config.items), np.array(s))
        alive = value > 0
        for f, order in enumerate(by_family):
            items = order[alive[order]]
            group, v = families[items, f], value[items]
            total[s] += np.bincount(group, v, minlength=n_groups)
            keys.append(s * n_groups + group + _shares_so_far(group, v, total[s]))
            picked.append(items.astype(np.int32))
        best = np.flatnonzero(alive)
        best = best[np.lexsort((-value[best], world.items.topic[best]))]
        rank = _rank_in(world.items.topic[best])
        leader[s, world.items.topic[best[rank < 3]], rank[rank < 3]] = best[rank < 3]
    return {"key": np.concatenate(keys), "key_item": np.concatenate(picked), "total": total, "leader": leader}


def _shares_so_far(group: np.ndarray, v: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Running share of each value in its group, exactly 1 at the group's last; `group` is sorted."""
    cum = np.cumsum(v)
    last = np.append(group[1:] != group[:-1], True)[: len(group)]
    before = np.zeros(len(total))
    before[group[last][1:]] = cum[last][:-1]
    return np.where(last, 1.0, np.minimum((cum - before[group]) / total[group], 1.0))


def _rank_in(group: np.ndarray) -> np.ndarray:
    """0, 1, 2, … inside each run of equal values of the sorted `group`."""
    counts = np.bincount(group)
    return np.arange(len(group)) - (np.cumsum(counts) - counts)[group]


def _clock(config: GenerateConfig, zones: tuple[str, ...]) -> tuple[np.ndarray, int]:
    """Days east of UTC by zone and local hour, from three days before the log to what the longest horizon can ask for."""
    first, last = -3, config.days + 33
    start = config.start.replace(tzinfo=None)
    hours = [start + timedelta(hours=h) for h in range(24 * first, 24 * last)]
    table = [[h.replace(tzinfo=ZoneInfo(z)).utcoffset().total_seconds() / 86400 for h in hours] for z in zones]
    return np.array(table), first


@lru_cache(maxsize=1)
def _build(config: GenerateConfig) -> World:
    topics, cells = _topics(config), _cells(config)
    zones = tuple(dict.fromkeys(c[3] for c in CITIES[: config.meaning.cities]))
    offset, offset_from = _clock(config, zones)
    n_slots = int(np.ceil((config.days + config.horizon) / config.meaning.slot))
    bare = World(
        config=config, preset=config.meaning, n_slots=n_slots, topics=topics, cells=cells, items=_items(config, topics, cells), zones=zones,
        zone_of_city=np.array([zones.index(c[3]) for c in CITIES[: config.meaning.cities]]), offset=offset, offset_from=offset_from,
        first_weekday=config.start.weekday(), key=np.empty(0), key_item=np.empty(0, np.int32), total=np.empty((0, 0)), leader=np.empty(0),
    )
    tables = _group_tables(bare)
    if not (tables["total"][:, 0] > 0).all():
        raise GenerateError(f"at times no item of preset {config.preset} is alive: raise n_items above {config.items}")
    return replace(bare, **tables)


def build(config: GenerateConfig) -> World:
    """The world of a log; the last one asked for is kept in the process."""
    return _build(config)
