"""`recs clean` removes what no kept night needs, and nothing else."""
from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from recs.clock import DAY, micros, parse_instant
from recs.evidence.item_tables import ItemTables, write_manifest
from recs.serve.retention import newest_nights, old_folders, remove

FIRST = date(2024, 3, 1)
CUT = micros(parse_instant("2024-03-01T00:00:00Z"))


def booked(day: int, list_name: str = "main", batch: int = 1, item_tables: str = "") -> dict:
    run_date = FIRST + timedelta(days=day)
    return {"run_date": run_date, "list_name": list_name, "as_of_us": CUT + day * DAY, "max_batch": batch, "item_tables": item_tables}


def tables(root: Path, name: str, cut_us: int, **inputs: int) -> str:
    """A folder of item tables with one file; its version."""
    folder = root / "item_tables" / name
    folder.mkdir(parents=True)
    np.save(folder / "item_index.npy", np.arange(3, dtype=np.int32))
    return write_manifest(folder, cut_us=cut_us, n_items=3, kinds=[], inputs=inputs, name=name)["version"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four nights; each with item tables of its cut and of a training cut a day before, staged lists, and a rebuilt state."""
    for day in range(4):
        as_of = CUT + day * DAY
        tables(tmp_path, f"d{day}-batch1", as_of, as_of_us=as_of, max_batch=1)
        tables(tmp_path, f"d{day}-batch1-from", as_of - DAY, as_of_us=as_of, max_batch=1)
        (tmp_path / "_staging" / str(FIRST + timedelta(days=day)) / "main" / "1").mkdir(parents=True)
        (tmp_path / "_rebuilt" / f"{as_of}-1" / "sequences").mkdir(parents=True)
    return tmp_path


def names(folders: list[Path]) -> set[str]:
    return {f"{f.parent.name}/{f.name}" for f in folders}


def test_what_the_newest_nights_need_stays(root: Path):
    kept = newest_nights([booked(d) for d in range(4)], 2)
    assert names(old_folders(root, kept)) == {
        "item_tables/d0-batch1", "item_tables/d1-batch1", "item_tables/d0-batch1-from", "item_tables/d1-batch1-from",
        "_staging/2024-03-01", "_staging/2024-03-02", f"_rebuilt/{CUT}-1", f"_rebuilt/{CUT + DAY}-1",
    }


def test_item_tables_named_by_a_kept_night_stay_however_old(root: Path):
    version = ItemTables(root / "item_tables" / "d0-batch1").version
    kept = newest_nights([booked(0), booked(3, item_tables=version)], 1)
    assert "item_tables/d0-batch1" not in names(old_folders(root, kept))
    assert "item_tables/d1-batch1" in names(old_folders(root, kept))


def test_every_list_keeps_its_own_newest_nights(root: Path):
    kept = newest_nights([booked(0, "mail"), *(booked(d) for d in range(4))], 1)
    assert kept.since == FIRST      # the newest night of `mail`
    assert names(old_folders(root, kept)) == {f"_rebuilt/{CUT + DAY}-1", f"_rebuilt/{CUT + 2 * DAY}-1"}     # states can be told apart


def test_a_night_of_a_backfill_stays_while_it_is_made(root: Path):
    rows = [booked(d) | {"decided_at_us": 1_000 * (d != 1)} for d in range(4)]
    rows[1]["decided_at_us"] = 5_000
    kept = newest_nights(rows, 1, at_work_us=4_000)
    assert kept.run_dates == {FIRST + timedelta(days=1), FIRST + timedelta(days=3)}
    assert names(old_folders(root, kept)) >= {"_staging/2024-03-01", f"_rebuilt/{CUT}-1"} and "_staging/2024-03-02" not in names(
        old_folders(root, kept))


def test_all_attempts_at_a_kept_night_count(root: Path):
    kept = newest_nights([booked(2), booked(3), booked(3, batch=7)], 1)
    assert kept.states == {(CUT + 3 * DAY, 1), (CUT + 3 * DAY, 7)}


def test_fewer_nights_than_are_kept_lose_nothing(root: Path):
    assert old_folders(root, newest_nights([booked(d) for d in range(4)], 4)) == []
    assert newest_nights([], 4) is None


def book(root: Path, model: str, day: int, names: list[str]) -> None:
    """A book of examples of one fit, and what it names."""
    for name in names:
        (root / "_examples" / name).mkdir(parents=True, exist_ok=True)
        (root / "_examples" / name / "part-00000.parquet").write_text("rows")
    body = {"model": model, "as_of_us": CUT + day * DAY, "names": [*names, f"prior-{model}{day}.json"]}
    (root / "_examples" / f"prior-{model}{day}.json").write_text('{"own@30d": 1.0}')
    (root / "_examples" / f"{model}-{day}.json").write_text(json.dumps(body))


def test_examples_stay_as_long_as_a_book_that_is_kept_names_them(root: Path):
    book(root, "timeline", 0, ["s1/n0", "s1/n1"])
    book(root, "timeline", 1, ["s1/n1", "s1/n2", "s2/n1"])
    book(root, "timeline", 3, ["s1/n2"])
    book(root, "other", 0, ["s3/n0"])               # a model's newest stays however old: its next fit goes on from there
    (root / "_examples" / "s9" / "unnamed").mkdir(parents=True)
    (root / "_examples" / "notes.json").write_text("[1]")
    kept = newest_nights([booked(d) for d in range(4)], 2)
    old = [p.relative_to(root / "_examples").as_posix() for p in old_folders(root, kept) if "_examples" in p.parts]
    assert sorted(old[:-2]) == ["prior-timeline0.json", "prior-timeline1.json", "s1/n0", "s1/n1", "s2/n1"]
    assert old[-2:] == ["timeline-0.json", "timeline-1.json"]       # last: a clean that dies finds the others named
    assert [remove(p) for p in old_folders(root, kept)].count(4) == 3
    assert not [p for p in old_folders(root, kept) if "_examples" in p.parts]


def test_folders_of_another_form_are_left_alone(root: Path):
    kept = newest_nights([booked(3)], 1)
    for name in ("_staging/notes", "_rebuilt/by-hand", "item_tables/x-batch9", "models/2024-03-01"):
        (root / name).mkdir(parents=True)
    odd = {"_staging/notes", "_rebuilt/by-hand", "item_tables/x-batch9", "models/2024-03-01"}
    assert not odd & names(old_folders(root, kept))


def test_a_removal_that_did_not_end_is_ended_by_the_next(root: Path):
    kept, folder = newest_nights([booked(3)], 1), root / "item_tables" / "d0-batch1"
    folder.rename(root / "item_tables" / ".removed.d0-batch1")
    old = old_folders(root, kept)
    assert "item_tables/.removed.d0-batch1" in names(old)
    assert sum(remove(f) for f in old) > 0
    assert old_folders(root, kept) == []
    assert {p.name for p in (root / "item_tables").iterdir()} == {"d3-batch1", "d3-batch1-from"}
