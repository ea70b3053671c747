"""From choices to rows: event types, dwell, value, place, arrival; and dirt beside them.

Dirt never touches a clean row: duplicates, malformed lines and rows with an impossible time are extra rows made after a clean
one; late rows are clean rows that only arrive later; bots are extra users.  So a log with dirt holds the log without it.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import draws as rng
from .choices import SOURCE_OF_COLUMN, Draws, Mixture, State, probability, walk
from .people import MS, Visits, make_people, miss_chance, visit_times
from .settings import MATCH, SOURCES, GenerateConfig
from .world import KM_PER_DEGREE, World

USERS_PER_BLOCK = 1024
ITEMS_PER_BLOCK = 8192
BOT_ROWS = 1000             # of one bot at most, one every two seconds
LATE_DAYS = 5               # a late row arrives 1 to 5 days after its day
# what stands where the time should be: before 1990, in the year 2100, seconds where milliseconds are expected, no time at all
BAD_TIMES = {
    "epoch_ms": ("0", "4102444800000", "{s}", "yesterday"),
    "iso": ("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "{s}", "yesterday"),
}
COLUMNS = {
    "user_id": "string", "seq": "bigint", "item_id": "string", "ts_ms": "bigint", "event_type": "string", "dwell_s": "double",
    "value": "double", "lat": "double", "lon": "double", "source": "string", "probability": "double", "arrival": "string",
    "dirt": "string", "raw_time": "string",
}
DDL = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())


@dataclass(frozen=True)
class Chosen:
    """[E] what was chosen at each visit of a block."""

    visits: Visits
    item: np.ndarray
    column: np.ndarray
    probability: np.ndarray


def user_ids(config: GenerateConfig, number: np.ndarray) -> np.ndarray:
    """Ids of one width, so that their order is that of the numbers."""
    width = max(5, len(str(config.users)) + 1)
    return np.array([f"u{n:0{width}d}" for n in number], object)


def item_ids(config: GenerateConfig, number: np.ndarray) -> np.ndarray:
    """Ids of one width; in a social log those of the users."""
    if config.meaning.items_are_users:
        return user_ids(config, number)
    width = max(5, len(str(config.items)))
    return np.array([f"i{n:0{width}d}" for n in number], object)


def n_bots(config: GenerateConfig) -> int:
    """As many as the share of bot rows needs, at BOT_ROWS each."""
    rows = config.n_events * dirt_share(config, "bot")
    return int(np.ceil(rows / BOT_ROWS))


def dirt_share(config: GenerateConfig, kind: str) -> float:
    """Rows of this kind per clean row: the kinds asked for share `dirt` evenly."""
    return config.dirt / len(config.dirt_kinds) if kind in config.dirt_kinds else 0.0


def user_blocks(config: GenerateConfig) -> int:
    """Number of blocks of users."""
    return -(-config.users // USERS_PER_BLOCK)


def users_of(config: GenerateConfig, block: int) -> np.ndarray:
    """Numbers of the users of a block."""
    return np.arange(block * USERS_PER_BLOCK, min((block + 1) * USERS_PER_BLOCK, config.users))


def item_blocks(config: GenerateConfig) -> int:
    """Number of blocks of items."""
    return -(-config.items // ITEMS_PER_BLOCK)


def items_of(config: GenerateConfig, block: int) -> np.ndarray:
    """Numbers of the items of a block."""
    return np.arange(block * ITEMS_PER_BLOCK, min((block + 1) * ITEMS_PER_BLOCK, config.items))


def n_blocks(config: GenerateConfig) -> int:
    """Blocks of users, then one block per bot."""
    return user_blocks(config) + n_bots(config)


def block_rows(world: World, block: int) -> pd.DataFrame:
    """All rows of one block, columns as in COLUMNS."""
    config, bot = world.config, block - user_blocks(world.config)
    if bot >= 0:
        return _bot(world, bot)
    number = users_of(config, block)
    return with_dirt(config, as_rows(world, number, choose_all(world, number)))


def choose_all(world: World, number: np.ndarray) -> Chosen:
    """The choices of these users over the whole log."""
    people = make_people(world, number)
    visits = visit_times(world, people, number, 0.0, float(world.config.days))
    item, column = np.zeros(len(visits.ms), np.int64), np.zeros(len(visits.ms), np.int64)
    likely = np.zeros(len(visits.ms))

    def seen(visit: np.ndarray, _user: np.ndarray, mix: Mixture, made: Draws) -> None:
        item[visit], column[visit], likely[visit] = made.item, made.column, probability(world, mix, made.item)

    walk(world, people, State.new(len(number), world.preset.once), visits, number, visits.offsets[:-1], visits.offsets[1:], seen)
    return Chosen(visits, item, column, likely)


def as_rows(world: World, number: np.ndarray, chosen: Chosen) -> pd.DataFrame:
    """Clean rows: every visit's chain of events, in order of user and time; `seq` counts the user's rows."""
    config, p, v = world.config, world.preset, chosen.visits
    visit = np.arange(len(v.ms))
    nth = visit - v.offsets[v.user]
    source = SOURCE_OF_COLUMN[chosen.column]
    match = np.array([MATCH[s] for s in SOURCES])[source]

    def u(what: str) -> np.ndarray:
        return rng.uniform(config.seed, f"row.{what}", number[v.user], nth)

    missed = u("miss") < np.array([miss_chance(config, s) for s in SOURCES])[source]
    happened, ms, parts = ~missed, v.ms.copy(), []
    for k, kind in enumerate(p.kinds):
        if k:
            happened = happened & (u(f"chain{k}") < kind.chance * match)
            ms = ms + 1000 + (-1000 * kind.after_s * np.log(u(f"after{k}"))).astype(np.int64)
        facts = {"event_type": kind.name, "first": k == 0, "priced": kind.value}
        parts.append(pd.DataFrame({"visit": visit[happened], "ms": ms[happened], **facts}))
    if p.miss:
        facts = {"event_type": p.miss.name, "first": False, "priced": False}
        parts.append(pd.DataFrame({"visit": visit[missed], "ms": v.ms[missed], **facts}))
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows.ms < config.days * MS]
    if p.items_are_users:       # nobody visits themself
        rows = rows[chosen.item[rows.visit] != number[v.user[rows.visit]]]
    rows = rows.assign(user=v.user[rows.visit]).sort_values(["user", "ms", "visit"], kind="stable", ignore_index=True)
    return _dress(world, number, chosen, rows, match, u)


def _dress(world: World, number: np.ndarray, chosen: Chosen, rows: pd.DataFrame, match: np.ndarray, u) -> pd.DataFrame:
    """Ids, dwell, value and place of rows with visit, ms, event_type, first, priced, user."""
    config, p = world.config, world.preset
    visit, user = rows.visit.to_numpy(), rows.user.to_numpy()
    item = chosen.item[visit]
    dwell = p.dwell_s * match * np.exp(0.7 * rng.normal(config.seed, "row.dwell", number[chosen.visits.user], np.arange(len(match))
                                                         - chosen.visits.offsets[chosen.visits.user]))
    dwell = np.where(u("dwell_known") < 0.95, np.round(dwell, 1), np.nan)
    known_place = p.placed & (u("place_known") < 0.95)[visit]
    north, east = 0.03 * (u("north") - 0.5)[visit] / KM_PER_DEGREE, 0.03 * (u("east") - 0.5)[visit] / KM_PER_DEGREE
    start_ms = int(config.start.timestamp() * 1000)
    ts = start_ms + rows.ms.to_numpy()
    ids, names = user_ids(config, number), item_ids(config, np.arange(config.items)) if len(rows) > config.items else None
    counts = np.bincount(user, minlength=len(number))
    return pd.DataFrame({
        "user_id": ids[user], "seq": np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts),
        "item_id": names[item] if names is not None else item_ids(config, item), "ts_ms": ts,
        "event_type": rows.event_type.to_numpy(object), "dwell_s": np.where(rows["first"], dwell[visit], np.nan),
        "value": np.where(rows.priced, world.items.price[item], np.nan),
        "lat": np.where(known_place, np.round(world.items.lat[item] + north, 5), np.nan),
        "lon": np.where(known_place, np.round(world.items.lon[item] + east, 5), np.nan),
        "source": np.array(SOURCES, object)[SOURCE_OF_COLUMN[chosen.column[visit]]], "probability": chosen.probability[visit],
        "arrival": _day_of(ts), "dirt": "", "raw_time": None, "number": number[user],
    })


def _day_of(ms: np.ndarray) -> np.ndarray:
    return (ms // int(MS)).astype("datetime64[D]").astype(str).astype(object)


def with_dirt(config: GenerateConfig, clean: pd.DataFrame) -> pd.DataFrame:
    """The clean rows, some marked late, and extra rows made after some of them."""
    number, seq = clean.pop("number").to_numpy(), clean.seq.to_numpy()

    def u(what: str) -> np.ndarray:
        return rng.uniform(config.seed, f"dirt.{what}", number, seq)

    late = u("late") < dirt_share(config, "late")
    delay = 1 + (LATE_DAYS * u("delay")).astype(np.int64)
    arrival = np.where(late, _day_of(clean.ts_ms.to_numpy() + delay * int(MS)), clean.arrival)
    clean = clean.assign(arrival=arrival, dirt=np.where(late, "late", ""))
    extra = []
    for kind in ("duplicate", "bad_time", "malformed"):
        hit = u(kind) < dirt_share(config, kind)
        rows = clean[hit].assign(dirt=kind)
        if kind == "duplicate":     # half of them come again in the next day's file
            again = np.where(u("again")[hit] < 0.5, _next_day(rows.arrival), rows.arrival)
            rows = rows.assign(arrival=again)
        if kind == "bad_time":
            which = (4 * u("which")[hit]).astype(int)
            seconds = (rows.ts_ms // 1000).astype(str)
            rows = rows.assign(raw_time=[BAD_TIMES[config.meaning.time][w].format(s=s) for w, s in zip(which, seconds, strict=True)])
        extra.append(rows)
    return pd.concat([clean, *extra], ignore_index=True)


def _next_day(arrival: pd.Series) -> np.ndarray:
    return (arrival.to_numpy("datetime64[D]") + 1).astype(str).astype(object)


def _bot(world: World, nth: int) -> pd.DataFrame:
    """One machine that goes through the catalogue in order, one item every two seconds, on one day."""
    config = world.config
    number = config.users + nth
    u = rng.uniform(config.seed, "bot", number, np.arange(2))
    k = np.arange(round(config.n_events * dirt_share(config, "bot") / n_bots(config)))
    ts = int(config.start.timestamp() * 1000) + int(u[0] * (config.days - 1) * MS) + 2000 * k
    item = (int(u[1] * config.items) + k) % config.items
    rows = pd.DataFrame({
        "user_id": user_ids(config, [number])[0], "seq": k, "item_id": item_ids(config, item), "ts_ms": ts,
        "event_type": world.preset.kinds[0].name, "dwell_s": 1.0, "source": "bot", "arrival": _day_of(ts), "dirt": "bot",
    })
    return rows.reindex(columns=list(COLUMNS))
