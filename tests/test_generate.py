"""The generator: same seed, same rows; effects that are there when on and gone when off; an oracle that is one."""
from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from recs.config import load
from recs.generate import DIRT_KINDS, EFFECTS, PRESETS, GenerateError, generate, make_config, read_manifest
from recs.generating import choices, log, oracle, truth
from recs.generating import draws as rng
from recs.generating.people import make_people, rows, visit_times
from recs.generating.words import THEMES
from recs.generating.world import World, build

DISCOUNT = 1 / np.log2(np.arange(2, 12))
KEY = ["cut_us", "user_id"]


def all_rows(config) -> pd.DataFrame:
    world = build(config)
    return pd.concat([log.block_rows(world, b) for b in range(log.n_blocks(config))], ignore_index=True)


def clean(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.dirt.isin(["", "late"])]


@lru_cache(maxsize=4)
def visits_of(config) -> pd.DataFrame:
    """number, item, t, clock, gap, previous item of every visit: what was chosen, before it became rows."""
    world, parts = build(config), []
    for block in range(log.user_blocks(config)):
        number = log.users_of(config, block)
        chosen = log.choose_all(world, number)
        v = chosen.visits
        parts.append(pd.DataFrame({"number": number[v.user], "item": chosen.item, "t": v.t, "clock": v.clock}))
    frame = pd.concat(parts, ignore_index=True)
    by_user = frame.groupby("number")
    return frame.assign(previous=by_user["item"].shift().fillna(-1).astype(int), gap=by_user["t"].diff())


def lists_of(config, eyes: World | None = None) -> pd.DataFrame:
    world = build(config)
    return pd.concat([oracle.block_lists(world, log.users_of(config, b), eyes) for b in range(log.user_blocks(config))], ignore_index=True)


def truths(config, events: pd.DataFrame) -> pd.DataFrame:
    """cut_us, user_id, item_id, n that really happened, of users with a history; items met before left out where the preset says once."""
    targets = [k.name for k in config.meaning.kinds if k.target]
    out = []
    for cut in config.cut_times:
        ms = cut.timestamp() * 1000
        past, after = events[events.ts_ms < ms], events[(events.ts_ms >= ms) & (events.ts_ms < ms + config.horizon * 864e5)]
        met = after[after.event_type.isin(targets) & after.user_id.isin(past.user_id)]
        pairs = met.groupby(["user_id", "item_id"]).size().rename("n").reset_index()
        if config.meaning.once:
            known = pd.MultiIndex.from_frame(past[["user_id", "item_id"]].drop_duplicates())
            pairs = pairs[~pd.MultiIndex.from_frame(pairs[["user_id", "item_id"]]).isin(known)]
        out.append(pairs.assign(cut_us=round(cut.timestamp() * 1e6)))
    return pd.concat(out, ignore_index=True)


def ndcg(lists: pd.DataFrame, truth_: pd.DataFrame) -> pd.Series:
    """NDCG@10 of every (cut, user) with a truth."""
    hits = lists[lists["rank"] <= 10].merge(truth_, on=[*KEY, "item_id"])
    gain = hits.assign(gain=DISCOUNT[hits["rank"] - 1]).groupby(KEY)["gain"].sum()
    n = truth_.groupby(KEY).size()
    return gain.reindex(n.index).fillna(0) / np.cumsum(DISCOUNT)[np.minimum(n, 10) - 1]


def recent_popularity(config, events: pd.DataFrame, truth_: pd.DataFrame, half_life: float) -> pd.DataFrame:
    out = []
    for cut in config.cut_times:
        ms = cut.timestamp() * 1000
        past = events[events.ts_ms < ms]
        best = past.assign(w=2.0 ** (-(ms - past.ts_ms) / 864e5 / half_life)).groupby("item_id")["w"].sum().nlargest(10).index
        users = truth_[truth_.cut_us == round(cut.timestamp() * 1e6)].user_id.unique()
        out.append(pd.DataFrame({
            "cut_us": round(cut.timestamp() * 1e6), "user_id": np.repeat(users, 10), "item_id": np.tile(best, len(users)),
            "rank": np.tile(np.arange(1, 11), len(users)),
        }))
    return pd.concat(out)


def last_days(config, n: int) -> tuple[datetime, ...]:
    return tuple(config.stop - timedelta(days=d) for d in range(1, n + 1))


# ---- random numbers -------------------------------------------------------------------------------------------------


def test_a_random_number_depends_on_what_it_is_for_and_on_nothing_else():
    users = np.arange(10_000)
    together = rng.uniform(7, "sessions", users)
    assert np.array_equal(together[5000:], rng.uniform(7, "sessions", users[5000:]))
    assert not np.isin(together, rng.uniform(7, "sessions", users, 0)).any()
    assert not np.isin(together, rng.uniform(8, "sessions", users)).any()
    assert abs(together.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(together[:-1], together[1:])[0, 1]) < 0.03
    assert 0 < together.min() < 0.001
    assert 0.999 < together.max() < 1


def test_picks_follow_the_weights_of_their_row():
    weights = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]])
    rows_ = np.repeat([0, 1], 20_000)
    got = rng.pick_rows(rng.uniform(1, "x", np.arange(40_000)), weights, rows_)
    assert (got[rows_ == 1] == 0).all()
    assert (got[rows_ == 0] == 2).mean() == pytest.approx(0.75, abs=0.01)


# ---- users, items, visits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_about_as_many_events_as_asked_for(preset: str):
    config = make_config(preset=preset, n_events=10_000)
    assert len(clean(all_rows(config))) == pytest.approx(10_000, rel=0.12)


def test_visits_keep_the_hours_of_the_users_own_wall_clock_also_when_clocks_change():
    config = make_config(n_events=20_000, days=60, end="2024-04-20")   # New York changes on 10 March, Europe on 31 March
    world = build(config)
    people = make_people(world, np.arange(config.users))
    visits = visit_times(world, people, people.number, 0.0, 60.0)
    for e in range(0, len(visits.ms), 50):
        zone = ZoneInfo(world.zones[people.zone[visits.user[e]]])
        local = (config.start + timedelta(milliseconds=int(visits.ms[e]))).astimezone(zone)
        # an hour that is skipped or repeated may be read either way; sessions that run over it keep the offset of their start
        if local.date().isoformat() not in ("2024-03-10", "2024-03-31", "2024-04-07"):
            assert visits.clock[e] == local.hour + 24 * (local.weekday() >= 5)


def test_users_have_daily_and_weekly_rhythms_dormancy_and_segments():
    config = make_config(preset="music", n_events=60_000)
    visits, people = visits_of(config), make_people(build(config), np.arange(config.users))
    own_peak = people.day.argmax(axis=1)[visits.number]
    off = np.abs((visits.clock % 24 - own_peak + 12) % 24 - 12)
    assert (off <= 3).mean() > 0.5                                      # a flat day would have 7 of 24 hours
    weekend_share = visits.assign(w=visits.clock >= 24).groupby("number")["w"].mean().reindex(range(config.users))
    assert np.corrcoef(weekend_share.fillna(2 / 7), people.week[:, 6])[0, 1] > 0.5
    assert (visits.t < people.leave[visits.number] + 1.5).all()         # days are the user's own
    assert 0.1 < (people.leave < config.days).mean() < 0.2
    tops = build(config).topics.top[people.interest]
    assert (tops % 4 == people.segment[:, None]).mean() > 0.55          # a segment's favourites; 1/4 by chance


@pytest.mark.parametrize("preset", ["news", "shop"])       # successors that are gone; repeats of what is gone
def test_no_choice_before_an_item_appears_or_after_it_is_withdrawn(preset: str):
    config = make_config(preset=preset, n_events=20_000)
    visits, items = visits_of(config), build(config).items
    assert (visits.t >= items.birth[visits["item"]]).all()
    assert (visits.t < items.gone[visits["item"]]).all()


def test_presets_differ_in_rhythm_item_life_repetition_and_event_types():
    facts = {}
    for preset in PRESETS:
        config = make_config(preset=preset, n_events=20_000)
        v = visits_of(config)
        per_session = len(v) / ((v.gap.isna()) | (v.gap > 0.25)).sum()
        seen = v.groupby("item")["t"].agg(["min", "max", "size"])
        life = (seen["max"] - seen["min"])[seen["size"] > 3].median()
        facts[preset] = (v.duplicated(["number", "item"]).mean(), life, per_session, (config.meaning.kinds, config.meaning.miss))
    repeats, life, visits_per_session, kinds = ({p: f[i] for p, f in facts.items()} for i in range(4))
    assert repeats["news"] < 0.03 < 0.25 < min(repeats["checkins"], repeats["music"], repeats["social"], repeats["shop"])
    assert life["news"] < 4 < life["ads"] < 20 < 40 < min(life["shop"], life["music"], life["checkins"])
    assert visits_per_session["music"] > 2 * visits_per_session["video"]
    assert len(set(kinds.values())) == len(PRESETS)


def test_social_items_are_users_and_nobody_visits_themself():
    config = make_config(preset="social", n_events=10_000, n_users=40)
    got = clean(all_rows(config))
    lists = lists_of(config)
    assert set(got.item_id) <= set(log.user_ids(config, np.arange(40)))
    assert (got.user_id != got.item_id).all()
    assert (lists.user_id != lists.item_id).all()


# ---- effects --------------------------------------------------------------------------------------------------------


def _order(config) -> float:
    """Share of visits to the likeliest successor of the item before."""
    v = visits_of(config).query("previous >= 0")
    return (build(config).items.successor[v.previous, 0] == v["item"]).mean()


def _gap(config) -> float:
    """How much likelier the partner's topic is after long gaps than after short ones."""
    v, world = visits_of(config).query("previous >= 0"), build(config)
    before, now = world.items.topic[v.previous], world.items.topic[v["item"]]
    partner, periods = now == world.topics.partner[before], v.gap.to_numpy() / world.topics.stay[before]
    return partner[periods > 3].mean() - partner[periods < 0.1].mean()


def _clock(config) -> float:
    """Correlation of the topics' weekend share with the liking they have where the effect is on."""
    v, world = visits_of(config), build(config)
    share = pd.Series(v.clock.to_numpy() >= 24).groupby(world.items.topic[v["item"]]).agg(["mean", "size"])
    share = share[share["size"] > 50]
    liking = build(config.model_copy(update={"without": ()})).topics.clock[:, 24:].mean(axis=1)
    return np.corrcoef(share["mean"], np.log(liking[share.index]))[0, 1]


def _rhythm(config) -> float:
    """Among returns to an item that is consumed again: share that comes after .7 to 1.4 of its period."""
    v, items = visits_of(config), build(config).items
    age = v.groupby(["number", "item"])["t"].diff() / items.period[v["item"]]
    age = age[age.notna() & items.repeatable[v["item"]]]
    return age.between(0.7, 1.4).mean()


def _trend(config) -> float:
    """Visits per day around an item's burst, over its visits per day else, of items that have one."""
    v, items = visits_of(config), build(config).items
    near = np.abs(v.t - items.burst_at[v["item"]]) < items.burst_width[v["item"]]
    i = np.flatnonzero((items.burst_height > 0) & (items.birth < 0) & (items.gone > config.days))
    i = i[(items.burst_at[i] > 10) & (items.burst_at[i] < config.days - 10)]
    visits_, inside = v["item"].isin(i), 2 * items.burst_width[i].sum()
    return ((visits_ & near).sum() / inside) / ((visits_ & ~near).sum() / (config.days * len(i) - inside))


def _text(config) -> float:
    """Share of visits to items with a word of the user's first theme in the title."""
    v, world = visits_of(config), build(config)
    title = truth.raw_items(world, np.arange(config.items)).title[: config.items].str.lower()
    said = np.array([next(m for m, words in enumerate(THEMES.values()) if any(w in t.split() for w in words)) for t in title])
    return (said[v["item"]] == make_people(world, np.arange(config.users)).theme[v.number, 0]).mean()


def _place(config) -> float:
    """Share of visits to the three cells nearest to home."""
    v, world = visits_of(config), build(config)
    home = make_people(world, np.arange(config.users)).cell[v.number]
    return (world.cells.near[home] == world.items.cell[v["item"]][:, None]).any(axis=1).mean()


@pytest.mark.parametrize(("effect", "measure", "preset", "off", "on"), [
    # measure with the effect off at most `off`, on at least `on`
    ("order", _order, "shop", 0.03, 0.09),
    ("gap", _gap, "shop", 0.03, 0.12),
    ("clock", _clock, "shop", 0.5, 0.75),
    ("rhythm", _rhythm, "checkins", 0.22, 0.35),
    ("trend", _trend, "shop", 1.3, 3.0),
    ("text", _text, "shop", 0.10, 0.15),
    ("place", _place, "checkins", 0.18, 0.30),
])
def test_an_effect_is_there_when_on_and_gone_when_off(effect: str, measure, preset: str, off: float, on: float):
    with_it = make_config(preset=preset, n_events=40_000)
    without = make_config(preset=preset, n_events=40_000, without=(effect,))
    assert measure(without) < off < on < measure(with_it)
    # only the choices change: the visits are at the same times
    times = visits_of(without)[["number", "t"]].merge(visits_of(with_it)[["number", "t"]])
    assert len(times) > 0.9 * len(visits_of(without))


@pytest.mark.parametrize(("preset", "effect"), [
    ("shop", "order"), ("shop", "gap"), ("shop", "clock"), ("shop", "rhythm"), ("shop", "trend"), ("shop", "text"), ("checkins", "place"),
])
def test_a_log_made_for_an_effect_rewards_an_oracle_that_sees_it(preset: str, effect: str):
    """An oracle blind to the effect ranks clearly worse what happens next; where the effect is off, there is nothing to be blind to."""
    others = tuple(e for e in EFFECTS if e != effect)
    config = make_config(preset=preset, n_events=30_000, without=others, emphasis=effect, rollouts=48)
    config = config.model_copy(update={"cuts": last_days(config, 5)})
    happened = truths(config, clean(all_rows(config)))
    blind = build(config.model_copy(update={"without": EFFECTS}))
    loss = ndcg(lists_of(config), happened) - ndcg(lists_of(config, blind), happened)
    assert loss.mean() > max(0.015, 2 * loss.std() / len(loss) ** 0.5)
    flat = config.model_copy(update={"without": EFFECTS, "cuts": config.cuts[:1]})
    pd.testing.assert_frame_equal(lists_of(flat), lists_of(flat, build(flat)))


# ---- the oracle -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["shop", "news", "music"])
def test_the_oracle_beats_recent_popularity_on_what_really_happens(preset: str):
    config = make_config(preset=preset, n_events=20_000, rollouts=64)
    config = config.model_copy(update={"cuts": last_days(config, 3)})
    events = clean(all_rows(config))
    happened = truths(config, events)
    best = max(ndcg(recent_popularity(config, events, happened, h), happened).mean() for h in (0.5, 3, 10))
    assert ndcg(lists_of(config), happened).mean() > best + 0.1


def test_intensities_are_expected_counts():
    """Summed over two weeks of nights, the lists' intensities are the number of hits; also rank by rank."""
    config = make_config(n_events=20_000)
    config = config.model_copy(update={"cuts": last_days(config, 15)})
    events = clean(all_rows(config)).query("event_type == 'view'")      # one of every visit; the intensity counts visits
    lists = lists_of(config).merge(truths(config, events), how="left", on=[*KEY, "item_id"]).fillna({"n": 0})
    by_rank = lists.groupby(pd.cut(lists["rank"], [0, 1, 5, 20]), observed=True)[["intensity", "n"]].sum()
    assert (by_rank.n / by_rank.intensity).between(0.85, 1.15).all()


def test_the_lists_agree_with_counting_the_choices_of_many_futures():
    config = make_config(n_events=10_000, n_users=200, n_items=100, rollouts=400)
    world, number = build(config), np.arange(40)
    t = config.days - 1.0
    people = make_people(world, number)
    past = visit_times(world, people, number, 0.0, float(config.days))
    before = past.offsets[:-1] + np.bincount(past.user[past.t < t], minlength=40)
    state = choices.walk(world, people, choices.State.new(40, once=False), past, number, past.offsets[:-1], before, lambda *_: None)
    user = np.repeat(number, 1000)
    lane = rng.hashed(3, "another future", user, np.tile(np.arange(1000), 40))
    counts: Counter = Counter()

    def count(_visit, lanes, _mix, made) -> None:
        counts.update(zip(user[lanes], made.item, strict=True))

    future = visit_times(world, rows(people, user), lane, t, t + 1)
    choices.walk(world, rows(people, user), rows(state, user), future, lane, future.offsets[:-1], future.offsets[1:], count)
    lists = oracle.block_lists(world, number)
    counted = [counts[int(u[1:]), int(i[1:])] / 1000 for u, i in zip(lists.user_id, lists.item_id, strict=True)]
    # the squared distance is that of counts, about one; visits come in sessions, which makes it somewhat more
    assert ((np.array(counted) - lists.intensity) ** 2 / (lists.intensity / 1000)).mean() < 3
    assert sum(counted) == pytest.approx(lists.intensity.sum(), rel=0.05)


def test_lists_are_ranked_without_gaps_and_know_nothing_after_the_cut():
    config = make_config(n_events=10_000, cuts=("2024-02-20", "2024-03-30"))
    lists = lists_of(config)
    longer = lists_of(config.model_copy(update={"cuts": (*config.cuts, config.stop)}))
    assert set(lists.cut_us) == {round(datetime(2024, m, d, tzinfo=UTC).timestamp() * 1e6) for m, d in ((2, 20), (3, 30))}
    assert (lists.groupby(KEY)["rank"].agg(list).map(lambda r: r == list(range(1, len(r) + 1)))).all()
    assert lists.groupby(KEY)["intensity"].apply(lambda x: x.is_monotonic_decreasing).all()
    assert not lists.duplicated([*KEY, "item_id"]).any()
    pd.testing.assert_frame_equal(lists, longer[longer.cut_us.isin(lists.cut_us)].reset_index(drop=True))


# ---- dirt -----------------------------------------------------------------------------------------------------------


def test_dirt_stands_beside_the_clean_rows_and_changes_none():
    config = make_config(n_events=20_000, dirt=0.05)
    dirty, without = all_rows(config), all_rows(config.model_copy(update={"dirt": 0.0}))
    same = [c for c in without.columns if c not in ("arrival", "dirt")]
    pd.testing.assert_frame_equal(clean(dirty)[same].reset_index(drop=True), without[same])
    for kind, rows_ in dirty[dirty.dirt != ""].groupby("dirt"):
        assert len(rows_) == pytest.approx(0.01 * 20_000, rel=0.25), kind
    assert set(dirty.dirt) == {"", *DIRT_KINDS}
    late = dirty[dirty.dirt == "late"]
    delay = pd.to_datetime(late.arrival) - pd.to_datetime(late.ts_ms, unit="ms").dt.floor("D")
    assert delay.dt.days.between(1, log.LATE_DAYS).all()
    bots = dirty[dirty.dirt == "bot"].groupby("user_id").size()
    assert not set(bots.index) & set(clean(dirty).user_id)


def test_single_kinds_of_dirt():
    got = all_rows(make_config(n_events=10_000, dirt=0.02, dirt_kinds=("late", "malformed")))
    assert set(got.dirt) == {"", "late", "malformed"}
    assert (got.dirt == "late").sum() == pytest.approx(100, rel=0.3)


# ---- through Spark --------------------------------------------------------------------------------------------------

# three blocks of users and a bot
SMALL = {"preset": "checkins", "n_events": 6_000, "n_users": 2_500, "days": 14, "dirt": 0.05, "seed": 3, "rollouts": 4}


@pytest.fixture(scope="module")
def made(spark, tmp_path_factory) -> str:
    out = str(tmp_path_factory.mktemp("log"))
    generate(spark, out, make_config(**SMALL), partitions=1)
    return out


def raw_lines(out: str, part: str = "events") -> dict[str, list[str]]:
    """Lines of every file, by its folder and name."""
    return {str(p.relative_to(out)): gzip.decompress(p.read_bytes()).decode().splitlines() for p in sorted(Path(out, part).rglob("*.gz"))}


def test_another_partitioning_writes_the_same_rows(spark, made: str, tmp_path: Path):
    other = str(tmp_path / "log")
    generate(spark, other, make_config(**SMALL), partitions=5)
    assert raw_lines(other) == raw_lines(made)      # file by file, line by line
    for part in ("draws", "oracle", "users"):
        both = [spark.read.parquet(f"{out}/truth/{part}").toPandas() for out in (made, other)]
        order = [c for c in ("cut_us", "user_id", "rank", "seq", "dirt") if c in both[0]]
        a, b = (x.sort_values(order, ignore_index=True).astype(str) for x in both)
        pd.testing.assert_frame_equal(a, b)


def test_files_are_named_by_the_day_they_arrive(spark, made: str):
    draws = spark.read.parquet(f"{made}/truth/draws").toPandas()
    lines = raw_lines(made)
    by_day = Counter(name.split("/")[1].removeprefix("arrival=") for name, rows_ in lines.items() for _ in rows_)
    assert by_day == Counter(draws.arrival)
    assert all(Path(name).name == "part-00000.json.gz" for name in lines)
    broken = 0
    for line in (x for rows_ in lines.values() for x in rows_):
        try:
            row = json.loads(line)
            assert {"visitor", "item", "at", "action"} <= set(row)
        except json.JSONDecodeError:
            broken += 1
    assert broken == (draws.dirt == "malformed").sum() > 0


def test_a_finished_log_is_left_alone_and_other_settings_are_refused(spark, made: str):
    before = {p: p.stat().st_mtime_ns for p in Path(made).rglob("*") if p.is_file()}
    counts = generate(spark, made, make_config(**SMALL))
    assert {p: p.stat().st_mtime_ns for p in Path(made).rglob("*") if p.is_file()} == before
    assert counts == read_manifest(spark, made)["stats"]
    assert counts["events"] == sum(counts["event_types"].values())
    with pytest.raises(GenerateError, match="other settings"):
        generate(spark, made, make_config(**{**SMALL, "seed": 4}))


def test_other_cuts_cost_only_the_oracle(spark, made: str, tmp_path: Path):
    out = str(shutil.copytree(made, tmp_path / "log"))
    before = {p: p.stat().st_mtime_ns for p in Path(out).rglob("*") if p.is_file() and "oracle" not in str(p) and "manifest" not in str(p)}
    generate(spark, out, make_config(**SMALL, cuts=("2024-03-25", "2024-03-28")))
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert spark.read.parquet(f"{out}/truth/oracle").select("cut_us").distinct().count() == 2


@pytest.mark.slow
def test_ingest_finds_what_the_truth_says(spark, made: str, lake):
    from recs.jobs import ingest

    config = load("tiny").model_copy(update={"log": load_log("generated_checkins")})
    now = make_config(**SMALL).stop + timedelta(days=7)
    ingest.run(spark, lake, config, [f"{made}/events"], [f"{made}/items"], [f"{made}/users"], False, now)
    batch = spark.read.format("delta").load(f"{lake.root}/batches").first()
    dirt = Counter(spark.read.parquet(f"{made}/truth/draws").toPandas().dirt)
    assert batch.rows_accepted == dirt[""] + dirt["late"] + dirt["bot"]
    assert batch.rows_duplicate == dirt["duplicate"]
    assert batch.rows_quarantined == dirt["bad_time"] + dirt["malformed"]


def load_log(name: str):
    import yaml

    from recs.config import LogConfig

    return LogConfig.model_validate(yaml.safe_load((Path(__file__).parents[1] / "configs" / "mappings" / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_mapping_of_a_preset_names_its_event_types(preset: str):
    mapping = load_log("generated" if preset == "shop" else f"generated_{preset}").events
    meaning = PRESETS[preset]
    kinds = [*meaning.kinds, *([meaning.miss] if meaning.miss else [])]
    wanted = {k.name: (k.code, k.weight, k.target) for k in kinds}
    assert {name: (t.code, t.weight, t.target) for name, t in mapping.event_types.items()} == wanted
    assert mapping.time.kind == meaning.time


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "names"), [
    ({"without": ("time",)}, "without.*time.*known: order"),
    ({"dirt_kinds": ("mud",)}, "dirt_kinds.*mud"),
    ({"cuts": ("2025-01-01",)}, "cut 2025-01-01"),
    ({"preset": "zoo"}, "preset"),
    ({"colour": "red"}, "colour"),
    ({"emphasis": "place"}, "shop has no place"),
    ({"emphasis": "gap", "without": ("gap",)}, "switched off"),
])
def test_settings_that_cannot_be_are_refused_by_name(settings: dict, names: str):
    with pytest.raises(GenerateError, match=names):
        make_config(**settings)


def test_a_catalogue_too_small_for_its_short_lives_is_refused():
    with pytest.raises(GenerateError, match="n_items"):
        build(make_config(preset="news", n_events=1_000, n_items=50))
