"""A night costs what changed: nights one by one, with late data, are one full rebuild; and each night reads and writes little."""
from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from made_events import as_events, at, made_log, rows_of, users_frame

from recs.config import Config
from recs.etl.news import State, StateError, new_events, next_step, recipe, visible
from recs.jobs import item_hours, sequences, sessionize
from recs.schemas import EVENTS, ITEM_HOURS, SEQUENCES, SESSIONS, USERS
from recs.tables import Lake

JOBS = ((sessionize, SESSIONS), (item_hours, ITEM_HOURS), (sequences, SEQUENCES))
START = at("03-01 00:00")
CONFIG = Config.model_validate({
    "log": {"name": "made", "events": {
        "source": {"format": "parquet"}, "user_id": "u", "item_id": "i", "time": {"kind": "timestamp", "expr": "t"},
        "event_types": {"view": {"code": 1}, "buy": {"code": 2}},
    }},
    "clock": {"zone": "Europe/Amsterdam"}, "sequences": {"max_events": 12},
})


def cut(night: int):
    """Nights 1, 2, …: 23:00 UTC, midnight in Amsterdam, so that every cut falls into a UTC day."""
    return START + timedelta(days=night, hours=-1)


def delivered(n: int = 700, nights: int = 10) -> pd.DataFrame:
    """A log of `nights` days as it comes in: mostly with the night after the day, a tenth up to five nights late, some for tomorrow
    (they are there before their time and wait), none at all with the night in the middle."""
    log = made_log(n, n_users=25, days=nights)
    day = (log["ts"] - int(START.timestamp()) * 1_000_000) // 86_400_000_000
    spread = pd.Series(range(n)) % 20
    wait = spread.map(lambda s: {0: 2, 1: 5, 2: -1}.get(s, 0))
    batch = (day + 1 + wait).clip(1, nights)
    return log.assign(batch_id=batch.where(batch != nights // 2, nights // 2 + 1).astype("int64"))


def run_all(lake: Lake, night: int, **more) -> dict[str, dict]:
    return {table.name: job.run(lake.spark, lake, CONFIG, cut(night), night, **more) for job, table in JOBS}


def contents(lake: Lake) -> dict[str, list]:
    """All rows of the three tables, in an order of their own."""
    return {t.name: sorted(map(str, rows_of(lake.read(t), t.key[0]))) for _, t in JOBS}


@pytest.mark.parametrize("nights", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_nights_one_by_one_are_one_full_rebuild(spark, tmp_path, nights: int):
    nightly, whole = Lake(spark, tmp_path / "nightly"), Lake(spark, tmp_path / "whole")
    log = delivered(70 * nights, nights)
    # zone and segment of u00003 are learnt on one night and change on another
    learnt, changed = (2, 3) if nights == 4 else (4, 8)
    day = f"2024-03-{changed - 1:02d}"
    users = {
        learnt: users_frame(spark, ("u00003", "1970-01-01", None, "Asia/Tokyo", "gold", learnt)),
        changed: users_frame(spark, ("u00003", "1970-01-01", day, "Asia/Tokyo", "gold", learnt),
                             ("u00003", day, None, "America/New_York", "blue", changed)),
    }
    steps = []
    for night in range(1, nights + 1):
        batch = log[log["batch_id"] == night]
        if len(batch):
            nightly.append(as_events(spark, batch).coalesce(1), EVENTS, {})
        if night in users:
            nightly.merge(users[night], USERS, {})
        steps.append({done["step"] for done in run_all(nightly, night).values()})
    assert steps == [{"full"}] + [{"update"}] * (nights - 1)
    assert (log["batch_id"] <= nights).all() and (log["batch_id"] != nights // 2).all()

    whole.append(as_events(spark, log).coalesce(1), EVENTS, {})
    whole.append(users[changed], USERS, {})
    run_all(whole, nights)
    found, expected = contents(nightly), contents(whole)
    for table in expected:
        assert found[table] == expected[table], table
    assert len(expected["sequences"]) == 25 and len(expected["sessions"]) > 30 * nights

    # the same state again: nothing to do, nothing written
    versions = [nightly.version(t) for _, t in JOBS]
    assert run_all(nightly, nights) == {t.name: {"step": "unchanged", "rows_written": 0} for _, t in JOBS}
    assert [nightly.version(t) for _, t in JOBS] == versions
    # a state of the past is not reached by going back
    for job, _ in JOBS:
        with pytest.raises(StateError, match="cannot go back"):
            job.run(spark, nightly, CONFIG, cut(nights - 1), nights)
    # but the versions of that night are still there
    assert all(nightly.version_with(t, as_of_us=State.of(cut(nights - 1), 0).as_of_us, max_batch=nights - 1) is not None for _, t in JOBS)


def test_a_night_without_news_moves_the_state_and_a_new_setting_starts_afresh(spark, lake: Lake):
    lake.append(as_events(spark, made_log(60, n_users=4, days=1)).coalesce(1), EVENTS, {})
    run_all(lake, 2)
    before = contents(lake)
    done = run_all(lake, 4)
    assert {d["step"] for d in done.values()} == {"update"} and all(d["rows_written"] == 0 for d in done.values())
    assert contents(lake) == before and lake.note(SESSIONS)["as_of_us"] == State.of(cut(4), 4).as_of_us
    # another limit: sessions all change; so do positions and session counts
    wider = CONFIG.model_copy(update={"sessions": CONFIG.sessions.model_copy(update={"gap": timedelta(hours=5)})})
    assert [job.run(spark, lake, wider, cut(4), 4)["step"] for job, _ in JOBS] == ["full"] * 3
    assert contents(lake)["sessions"] != before["sessions"]


def test_a_command_leaves_a_table_that_is_past_the_night_where_that_is_asked(spark, lake: Lake, monkeypatch, capsys):
    """So a scheduler may make last month's nights with this month's tables there."""
    lake.append(as_events(spark, made_log(60, n_users=4, days=1)).coalesce(1), EVENTS, {})
    monkeypatch.setattr("recs.jobs._stage.start", lambda *_: spark)

    def asked(night: int, *flags: str) -> int:
        where = ["--config", "tiny", "--root", str(lake.root), "--as-of", cut(night).isoformat()]
        return item_hours.main([*where, "--max-batch", "2", *flags])

    assert asked(4, "--forward-only", "--wait", "1") == 0
    version = lake.version(ITEM_HOURS)
    assert asked(2) == 2 and "cannot go back" in capsys.readouterr().err
    assert asked(2, "--forward-only") == 0 and '"step": "left"' in capsys.readouterr().out
    assert lake.version(ITEM_HOURS) == version


def test_a_state_opens_only_the_files_that_can_hold_news(spark, lake: Lake):
    """Two batches of ten days and a third of one: the update of the last night opens the third's file and no other."""
    log = made_log(900, days=10)
    log["day"] -= log["day"].min()
    log = log[log["day"] < 10]      # a burst may run past midnight
    for batch, days in ((1, 10), (2, 10), (3, 1)):
        part = log[log["day"] >= 10 - days].iloc[batch - 1::3].assign(batch_id=batch)
        lake.append(as_events(spark, part.assign(day=part["day"] + 19783)).coalesce(1), EVENTS, {})     # 2024-03-01
    events = lake.read(EVENTS)
    news = new_events(events, State.of(cut(11), 2), State.of(cut(12), 3))
    assert (len(news.inputFiles()), len(events.inputFiles())) == (1, 21)
    assert news.count() == len(log[log["day"] == 9].iloc[2::3])
    # batch 2 has files of these dates too; its batch_id is outside what the first state knows
    assert len(visible(events, State.of(cut(3), 1)).inputFiles()) == 3


def test_news_are_what_one_state_knows_and_the_other_does_not(spark):
    log = delivered(300)
    events = as_events(spark, log)
    states = [State.of(cut(n), b) for n, b in ((2, 1), (2, 4), (5, 4), (7, 9))]
    for old, new in zip(states, states[1:], strict=False):
        known, later = ({r.event_id for r in visible(events, s).select("event_id").collect()} for s in (old, new))
        assert known <= later
        assert sorted(r.event_id for r in new_events(events, old, new).select("event_id").collect()) == sorted(later - known)


def test_the_way_to_a_state():
    old, by = {"as_of_us": 10, "max_batch": 3, "recipe": "r"}, "r"
    assert next_step({}, State(10, 3), by, False) == "full"                 # never written
    assert next_step(old, State(10, 3), by, False) == "unchanged"
    assert next_step(old, State(10, 3), by, True) == "full"                 # asked for
    assert next_step(old, State(10, 3), "other", False) == "full"           # other settings
    assert next_step(old, State(10, 4), by, False) == next_step(old, State(11, 3), by, False) == "update"
    for past in (State(9, 3), State(9, 4), State(10, 2), State(11, 2)):
        with pytest.raises(StateError, match="--full"):
            next_step(old, past, by, False)
    assert recipe(a=1, b=2) == recipe(b=2, a=1) != recipe(a=1, b=3)
