"""A lake of forty users and sixty items at the state of a night, written without the stages before: for tests of serve and publish."""
from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from serve_world import contract_frame, item_tables, model_folder

from recs.clock import DAY, HOUR, Night, from_micros
from recs.config import Config, ListConfig, LogConfig
from recs.schemas import BATCHES, EVENTS, ITEM_HOURS, ITEM_VOCABULARY, NIGHTS, SEQUENCES, USERS
from recs.serve import nights
from recs.tables import Lake

DAY0 = datetime(2024, 10, 4, tzinfo=UTC)
SEGMENTS = ("gold", "lead", None)


def night(day: int) -> Night:
    return Night(date(2024, 10, 4) + timedelta(days=day), DAY0 + timedelta(days=day), DAY0 + timedelta(days=day, hours=7))


def config(list_name: str = "main", **lists) -> Config:
    log = {
        "name": "tiny", "events": {"source": {"format": "csv"}, "user_id": "u", "item_id": "i", "time": {"kind": "epoch_s", "expr": "t"}},
    }
    rules = {"seen": {"by_type": {"event": 1}}}    # an item met within a day is not shown
    return Config(
        log=LogConfig.model_validate(log), models=["personal"],
        lists=ListConfig.model_validate({"name": list_name, "k": 5, "active_days": 30, "rules": rules, **lists}),
    )


def events(seed: int = 3) -> pd.DataFrame:
    """user_id, item, ts: forty users over twenty days up to night 2; u38 and u39 stop long before the cut."""
    rng = np.random.default_rng(seed)
    n, end = 900, night(2).as_of_us
    frame = pd.DataFrame({"user": rng.integers(0, 40, n), "item": rng.zipf(1.3, n) % 60, "ts": end - rng.integers(1, 20 * DAY, n)})
    frame.loc[frame.user >= 38, "ts"] -= 60 * DAY
    frame["user_id"] = [f"u{u:02d}" for u in frame.user]
    return frame.sort_values(["user", "ts"], ignore_index=True)


@dataclass(frozen=True)
class World:
    """The lake and the folders of model and item tables of night `day`."""

    lake: Lake
    model: Path
    tables: Path

    def facts(self) -> dict:
        return {"model_path": self.model, "model_version": "personal-2024-10-01-abc", "tables_path": self.tables}


def write_static(lake: Lake, all_events: pd.DataFrame) -> None:
    """Events, users, vocabulary and the tables that start empty."""
    rows = [
        {
            "event_id": f"e{n}", "user_id": e.user_id, "item_id": f"i{e.item:02d}", "item_index": e.item, "ts": from_micros(e.ts),
            "type_code": 1, "event_type": "event", "source_seq": n, "batch_id": 1, "event_date": from_micros(e.ts).date(),
        }
        for n, e in enumerate(all_events.itertuples())
    ]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    users = [
        {"user_id": f"u{n:02d}", "valid_from": epoch, "segment": SEGMENTS[n % 3], "opt_out": n == 37, "batch_id": 1} for n in range(42)
    ]
    vocabulary = [{"item_id": f"i{n:02d}", "item_index": n, "batch_id": 1} for n in range(60)]
    for table, content in ((EVENTS, rows), (USERS, users), (ITEM_VOCABULARY, vocabulary)):
        lake.append(contract_frame(lake.spark, table, content), table, {})
    add_batch(lake, 1)
    lake.ensure(NIGHTS)


def add_batch(lake: Lake, number: int) -> None:
    counts = dict.fromkeys(("rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate"), 0)
    lake.append(contract_frame(lake.spark, BATCHES, [{"batch_id": number, "log": "tiny", "finished_at": DAY0, **counts}]), BATCHES, {})


def lake_at(spark, folder: Path, day: int) -> Lake:
    """A lake with the static tables, at the cut of a night."""
    lake, every = Lake(spark, folder / "lake"), events()
    write_static(lake, every)
    bring(lake, folder, every, day)
    return lake


def attempt_at(day: int, **chosen) -> nights.Attempt:
    """The first attempt at a night that knows the first batch."""
    return nights.Attempt(night(day), "main", 0, 1, night(day).as_of_us, "c", "v", **chosen)


def bring(lake: Lake, folder: Path, all_events: pd.DataFrame, day: int) -> World:
    """Sequences, item_hours and item tables as of night `day`."""
    known = all_events[all_events.ts < night(day).as_of_us]
    sequences, hours = [], []
    for user_id, mine in known.groupby("user_id"):
        nan = [None] * len(mine)
        sequences.append({
            "user_id": user_id, "item_index": mine.item.tolist(), "type_code": [1] * len(mine), "ts": mine.ts.tolist(), "value": nan,
            "dwell_s": nan, "lat": nan, "lon": nan, "segment_code": [0] * len(mine),
            "n_events": len(mine), "event_ids": [f"e{n}" for n in mine.index],
            "source_seq": mine.index.tolist(), "gap_s": nan, "session_position": [0] * len(mine), "local_hour": [0] * len(mine),
            "local_weekday": [0] * len(mine), "first_ts": from_micros(mine.ts.min()), "last_ts": from_micros(mine.ts.max()),
            **dict.fromkeys(("browsing_s", "gap_mean_s", "gap_std_s", "day_strength", "day_phase_h", "week_strength", "week_phase_d"), 0.0),
        })
    per_hour = known.assign(hour=known.ts // HOUR * HOUR, segment=[SEGMENTS[u % 3] or "" for u in known.user])
    for (item, hour, segment), e in per_hour.groupby(["item", "hour", "segment"]):
        hours.append({
            "item_id": f"i{item:02d}", "item_index": item, "hour": from_micros(hour), "segment": segment, "n_events": len(e),
            "n_by_type": {}, "n_users": e.user.nunique(), "n_day_users": e.user.nunique(), "n_sessions": 1, "value": 0.0,
            "event_date": from_micros(hour).date(),
        })
    lake.overwrite(contract_frame(lake.spark, SEQUENCES, sequences), SEQUENCES, {"as_of_us": night(day).as_of_us, "max_batch": 1})
    lake.overwrite(contract_frame(lake.spark, ITEM_HOURS, hours), ITEM_HOURS, {"as_of_us": night(day).as_of_us, "max_batch": 1})
    counts = known.groupby("item").user.nunique()
    items = {f"i{n:02d}": {"index": n, "users": int(counts[n])} for n in sorted(counts.index)}
    tables = item_tables(folder / f"tables-{day}", items, cut_us=night(day).as_of_us)
    return World(lake, model_folder(folder / "model", "personal"), tables.path)
