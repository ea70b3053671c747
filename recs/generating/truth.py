"""Users and items as rows: once as a company would deliver them, once as they are."""
from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from . import draws as rng
from .log import item_ids, user_ids
from .people import make_people
from .words import BRANDS, CITIES, DESCRIPTION, SEGMENTS, THEMES, TITLES
from .world import FAR, World, trend

AGES = {"students": "18-25", "families": "26-45", "professionals": "26-65", "seniors": "65+"}
BEFORE = 365.0      # users who were there before the log had joined within this many days

RAW_USERS = "visitor string, zone string, segment string, age string, city string, opt_out boolean, valid_from string, valid_to string"
RAW_ITEMS = (
    "item string, title string, description string, category string, brand string, price double, lat double, lon double, "
    "available_from string, available_until string, valid_from string, valid_to string"
)
USERS = (
    "user_id string, segment string, zone string, home_cell int, sessions_per_day double, join double, leave double, opt_out double, "
    "week array<double>, day array<double>, interest array<string>, liking array<double>, drift array<double>, drift_period array<double>, "
    "drift_phase array<double>, theme array<string>"
)
ITEMS = (
    "item_id string, topic string, theme string, cell int, base double, birth double, gone double, half_life double, burst_at double, "
    "burst_height double, burst_width double, period double, repeatable boolean, successor array<string>, appeal array<double>"
)
TOPICS = "topic string, share double, partner string, stay double, clock array<double>"


def instants(world: World, day: np.ndarray) -> np.ndarray:
    """Days from the start of the log as ISO 8601 text; NULL for never."""
    return np.array([None if d >= FAR else (world.config.start + timedelta(seconds=round(d * 86400))).strftime("%Y-%m-%dT%H:%M:%SZ")
                     for d in day], object)


def raw_users(world: World, number: np.ndarray) -> pd.DataFrame:
    """The user table: a second row from the day on which somebody opts out."""
    c, people = world.config, make_people(world, number)
    joined = np.where(people.join > -FAR, people.join, -BEFORE * rng.uniform(c.seed, "user.joined", number))
    segment = np.array(SEGMENTS, object)[people.segment]
    always = people.opt_out <= joined
    rows = pd.DataFrame({
        "visitor": user_ids(c, number), "zone": np.array(world.zones, object)[people.zone], "segment": segment,
        "age": [AGES[s] for s in segment], "city": [CITIES[i][0] for i in world.cells.city[people.cell]], "opt_out": always,
        "valid_from": instants(world, joined), "valid_to": instants(world, np.where(always, FAR, people.opt_out)),
    })
    later = ~always & (people.opt_out < FAR)
    second = rows[later].assign(opt_out=True, valid_from=rows.valid_to[later], valid_to=None)
    return pd.concat([rows, second], ignore_index=True)


def raw_items(world: World, number: np.ndarray) -> pd.DataFrame:
    """The catalogue: a second row from the moment an item is withdrawn, so that nobody knows it before."""
    c, p = world.config, world.preset
    i = world.items
    title, description = texts(world, number)
    nothing = np.full(len(number), np.nan)
    withdrawn = i.gone[number] < c.days
    rows = pd.DataFrame({
        "item": item_ids(c, number), "title": title, "description": description, "category": world.topics.path[i.topic[number]],
        "brand": np.array(BRANDS, object)[i.brand[number]], "price": i.price[number] if p.priced else nothing,
        "lat": np.round(i.lat[number], 5) if p.placed else nothing, "lon": np.round(i.lon[number], 5) if p.placed else nothing,
        "available_from": instants(world, i.birth[number]), "available_until": None,
        "valid_from": instants(world, i.birth[number]), "valid_to": instants(world, np.where(withdrawn, i.gone[number], FAR)),
    })
    second = rows[withdrawn]
    second = second.assign(available_until=second.valid_to, valid_from=second.valid_to, valid_to=None)
    return pd.concat([rows, second], ignore_index=True)


def texts(world: World, number: np.ndarray) -> tuple[list[str], list[str]]:
    """Titles and descriptions; with the text effect off their words are those of some other topic and theme."""
    c, names = world.config, list(THEMES)

    def u(what: str) -> np.ndarray:
        return rng.uniform(c.seed, f"text.{what}", number)

    topic, theme = world.items.topic[number], world.items.theme[number]
    if not c.has("text"):
        topic, theme = (world.n_topics * u("topic")).astype(int), (len(names) * u("theme")).astype(int)
    first = (6 * u("word")).astype(int)
    titles, descriptions = [], []
    for n, k, m, w, brand in zip(number, topic, theme, first, world.items.brand[number], strict=True):
        words, leaf, top = THEMES[names[m]], world.topics.leaf[k], world.topics.path[k].split("/")[0]
        a, b, d = words[w], words[(w + 1) % 6], words[(w + 3) % 6]
        title = TITLES[c.preset].format(a=a, b=b, leaf=leaf, brand=BRANDS[brand], n=n)
        said = DESCRIPTION.format(leaf=leaf, top=top, brand=BRANDS[brand], a=b, b=d, c=words[(w + 4) % 6])
        titles.append(title[0].upper() + title[1:])
        descriptions.append(said[0].upper() + said[1:])
    return titles, descriptions


def user_rows(world: World, number: np.ndarray) -> pd.DataFrame:
    """What is true of users: columns as in USERS; days count from the start of the log, 1e9 = never."""
    p, topics = make_people(world, number), world.topics.path
    return pd.DataFrame({
        "user_id": user_ids(world.config, number), "segment": np.array(SEGMENTS, object)[p.segment],
        "zone": np.array(world.zones, object)[p.zone], "home_cell": p.cell.astype(np.int32), "sessions_per_day": p.activity,
        "join": p.join, "leave": p.leave, "opt_out": p.opt_out, "week": list(p.week), "day": list(p.day),
        "interest": [list(x[has]) for x, has in zip(topics[p.interest], np.isfinite(p.liking), strict=True)],
        **{c: [list(x[has]) for x, has in zip(getattr(p, c), np.isfinite(p.liking), strict=True)]
           for c in ("liking", "drift", "drift_period", "drift_phase")},
        "theme": [list(x) for x in np.array(list(THEMES), object)[p.theme]],
    })


def item_rows(world: World, number: np.ndarray) -> pd.DataFrame:
    """What is true of items: columns as in ITEMS; `appeal` is the trend curve, one value per day of the log, 0 while not on offer."""
    i, c = world.items, world.config
    day = np.arange(c.days) + 0.5
    appeal = i.base[number][:, None] * trend(c, i, number[:, None], day[None, :])
    appeal = np.where((i.birth[number][:, None] <= day) & (day < i.gone[number][:, None]), appeal, 0.0)
    own = {name: getattr(i, name)[number] for name in (
        "base", "birth", "gone", "half_life", "burst_at", "burst_height", "burst_width", "period", "repeatable")}
    return pd.DataFrame({
        "item_id": item_ids(c, number), "topic": world.topics.path[i.topic[number]],
        "theme": np.array(list(THEMES), object)[i.theme[number]], "cell": i.cell[number].astype(np.int32), **own,
        "successor": [list(item_ids(c, s)) for s in i.successor[number]], "appeal": list(appeal),
    })


def topic_rows(world: World) -> pd.DataFrame:
    """What is true of topics: columns as in TOPICS; `clock` is the liking by local hour, weekdays then weekends."""
    t = world.topics
    clock = [list(x) for x in t.clock]
    return pd.DataFrame({"topic": t.path, "share": t.share, "partner": t.path[t.partner], "stay": t.stay, "clock": clock})

