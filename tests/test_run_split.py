"""The door for outside judges: a folder as splits.py writes it, small, by hand; and what it must not depend on."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "benchmarks"))
from run_split import arg_parser, parse_settings  # noqa: E402
from split_folder import SplitError, SplitFolder, before_targets, targets_of, whole_hours  # noqa: E402

DAY_S = 86_400
FIRST_CUT = 100 * DAY_S


def log_of(n_users: int = 30, n_items: int = 12) -> pd.DataFrame:
    """Sixty days and two nights of a log in which every user keeps to two items, and item z comes up before the first cut."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{u:02d}", f"i{(u + int(rng.integers(0, 2))) % n_items:02d}", int(t))
        for u in range(n_users) for t in np.sort(rng.integers(40 * DAY_S, FIRST_CUT + 2 * DAY_S, 25))
    ]
    rows += [(f"u{u:02d}", "z", FIRST_CUT - 3600 * 5 + u) for u in range(0, n_users, 2)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "ts"]).assign(event_type="view", value=1.0)
    return frame.assign(order=np.arange(len(frame))).sort_values(["user_id", "ts", "order"], ignore_index=True)


def write_nightly(folder: Path, log: pd.DataFrame, filter_seen: bool) -> Path:
    """Two nights of one day each; no truth in the folder."""
    (folder / "history_events").mkdir(parents=True)
    cuts, requests = [FIRST_CUT, FIRST_CUT + DAY_S], []
    log[log.ts < cuts[0]].to_parquet(folder / "fit_events.parquet", index=False)
    for night, cut in enumerate(cuts):
        history = log[log.ts < cut]
        history.to_parquet(folder / f"history_events/night={night:02d}.parquet", index=False)
        requests.append(pd.DataFrame({"user_id": sorted(history.user_id.unique()), "night": night, "request_ts": cut, "group": "warm"}))
    pd.concat(requests).to_parquet(folder / "requests.parquet", index=False)
    meta = {
        "protocol": "nightly", "cuts": cuts, "horizon_days": 1, "filter_seen": filter_seen, "n_fit_events": int((log.ts < cuts[0]).sum()),
        "source": {"has_time": True},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def run(folder: Path, out: Path, *flags: str) -> pd.DataFrame:
    """The command as a judge types it, from another folder."""
    command = [sys.executable, str(REPO / "benchmarks/run_split.py"), str(folder), "--out", str(out), *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return pd.read_parquet(out)


def check_lists(lists: pd.DataFrame, log: pd.DataFrame, k: int) -> None:
    assert list(lists.columns) == ["user_id", "night", "item_id", "rank", "score"]
    lists = lists.sort_values(["night", "user_id", "rank"])
    one = lists.groupby(["night", "user_id"])
    assert (one.cumcount() + 1 == lists["rank"]).all()
    assert (one.size() <= k).all()
    assert not lists.duplicated(["night", "user_id", "item_id"]).any()
    assert np.isfinite(lists.score).all()
    for night, cut in enumerate([FIRST_CUT, FIRST_CUT + DAY_S]):
        known = log[log.ts < cut]
        assert set(lists[lists.night == night].user_id) == set(known.user_id)
        assert set(lists[lists.night == night].item_id) <= set(known.item_id)


@pytest.mark.slow
def test_a_nightly_split_without_seen_items(tmp_path: Path):
    log = log_of()
    folder = write_nightly(tmp_path / "split", log, filter_seen=True)
    lists = run(folder, tmp_path / "lists.parquet", "--model", "blend", "--k", "5", "--budget", "20")
    check_lists(lists, log, 5)
    for night, cut in enumerate([FIRST_CUT, FIRST_CUT + DAY_S]):
        seen = log[log.ts < cut][["user_id", "item_id"]].drop_duplicates()
        assert lists[lists.night == night].merge(seen, on=["user_id", "item_id"]).empty


@pytest.mark.slow
def test_what_happens_after_a_night_does_not_change_it(tmp_path: Path):
    log = log_of()
    other = log.copy()
    later = other.ts >= FIRST_CUT
    other.loc[later, "item_id"] = "i00"     # the second night's news are other news
    flags = ("--model", "personal", "--k", "5", "--set", "span=30d", "--set", "lift=0.1")
    a = run(write_nightly(tmp_path / "a", log, filter_seen=False), tmp_path / "a.parquet", *flags)
    b = run(write_nightly(tmp_path / "b", other, filter_seen=False), tmp_path / "b.parquet", *flags)
    check_lists(a, log, 5)
    order = ["user_id", "rank"]
    first = [x[x.night == 0].sort_values(order).reset_index(drop=True) for x in (a, b)]
    pd.testing.assert_frame_equal(*first)
    second = [x[x.night == 1].sort_values(order).reset_index(drop=True) for x in (a, b)]
    assert not second[0].equals(second[1])


def test_settings_go_to_the_model_or_to_the_configuration():
    args = arg_parser().parse_args(["s", "--model", "ease", "--out", "o", "--set", "span=14d", "--set", "fit.nights=4", "--set", "own=0.5"])
    assert parse_settings(args.set) == ({"span": "14d", "own": 0.5}, {"fit.nights": 4})
    with pytest.raises(SplitError, match="write KEY=VALUE"):
        parse_settings(["span"])


def test_a_folder_that_is_no_split_is_named(tmp_path: Path, spark):
    with pytest.raises(SplitError, match="no meta.json"):
        SplitFolder(tmp_path, spark)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(SplitError, match="fit_events.parquet: missing"):
        SplitFolder(tmp_path, spark)


def items_of(log: pd.DataFrame, path: Path) -> Path:
    """Titles and places; of i00 it is not known before the second night."""
    items = pd.DataFrame({"item_id": sorted(log.item_id.unique())})
    items["title"] = [f"thing number {i}" for i in items.item_id]
    items["lat"], items["lon"] = np.arange(len(items), dtype=float), 10.0
    items["valid_from"] = pd.to_datetime(np.where(items.item_id == "i00", FIRST_CUT + 3600, 0), unit="s", utc=True)
    items.to_parquet(path, index=False, coerce_timestamps="us")
    return path


def test_what_is_said_of_items_stands_beside_the_folder(tmp_path: Path, spark):
    log = log_of()
    split = SplitFolder(write_nightly(tmp_path / "split", log, False), spark, items_of(log, tmp_path / "items.parquet"))
    config = split.config({"text.max_tokens": 8})
    assert config.text.fields == ["title"] and {"lat", "lon"} <= config.log.items.columns.keys()
    texts = split.texts(config)
    for cut_s, known in ((FIRST_CUT, False), (FIRST_CUT + DAY_S, True)):
        vectors, said = texts.at(cut_s * 1_000_000, pd.Series(["i00", "i01"]))
        assert (said[0] == "thing number i00", bool(vectors[0].any())) == (known, known)
        assert said[1] == "thing number i01" and vectors[1].any()


def test_what_no_table_of_items_has_is_named(tmp_path: Path, spark):
    log = log_of()
    write_nightly(tmp_path / "split", log, False)
    with pytest.raises(SplitError, match="items.parquet: missing"):
        SplitFolder(tmp_path / "split", spark, tmp_path / "items.parquet")
    for columns, said in (({"item_id": ["z"], "colour": ["red"]}, "no colour"), ({"title": ["a"]}, "column missing: item_id")):
        pd.DataFrame(columns).to_parquet(tmp_path / "items.parquet", index=False)
        with pytest.raises(SplitError, match=said):
            _ = SplitFolder(tmp_path / "split", spark, tmp_path / "items.parquet").items


@pytest.mark.slow
def test_a_model_reads_what_is_said_of_items(tmp_path: Path):
    log = log_of()
    folder, items = write_nightly(tmp_path / "split", log, filter_seen=False), items_of(log, tmp_path / "items.parquet")
    flags = ("--model", "lm_adapter", "--k", "5", "--set", "epochs=2", "--budget", "3")
    with_texts = run(folder, tmp_path / "with.parquet", *flags, "--items", str(items), "--work", str(tmp_path / "work"))
    check_lists(with_texts, log, 5)
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "work").glob("cut-*/manifest.json")]
    assert manifests and all("text" in m["kinds"] and m["inputs"]["text"]["fields"] == ["title"] for m in manifests)


def test_targets_follow_the_protocols_rules(spark):
    from datetime import UTC, datetime

    rows = [
        ("ann", 0, 1), ("ann", 1, 2), ("ann", 0, 11), ("ann", 2, 12), ("ann", 0, 13),    # nobody had item 2 before: not a target
        ("bob", 0, 3), ("bob", 1, 14),                                                      # 1 is new to him
        ("cat", 1, 15),                                                                     # unknown before the split
    ]
    at = [(u, i, datetime.fromtimestamp(t, UTC), s, f"e{s}") for s, (u, i, t) in enumerate(rows)]
    events = spark.createDataFrame(at, "user_id string, item_index int, ts timestamp, source_seq bigint, event_id string")

    def of(targets):
        return {r["user_id"]: (r["item_index"], r["place"]) for r in targets.collect()}

    assert of(targets_of(events, None, False)) == {"ann": (0, 5)}                           # three events or more, the last
    assert of(targets_of(events, 10 * 1_000_000, False)) == {"ann": (0, 5), "bob": (1, 2)}
    first_meetings = targets_of(events, 10 * 1_000_000, True)
    assert of(first_meetings) == {"bob": (1, 2)}
    assert [r["item_index"] for r in before_targets(events, first_meetings).collect()] == [0]


def test_cuts_are_moved_to_the_next_full_hour():
    hour = 3_600_000_000
    assert (whole_hours(hour), whole_hours(hour + 1), whole_hours(1)) == (hour, 2 * hour, hour)
