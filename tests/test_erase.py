"""Erasing a user: his rows and nobody else's, no id in Delta's log, and derived tables still know where they stand."""
from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import tiny_warehouse

from recs.jobs import erase
from recs.schemas import EVENTS, QUARANTINE, RECOMMENDATIONS, SEQUENCES, USERS
from recs.tables import Lake


@pytest.fixture
def kept(lake: Lake) -> Lake:
    """The small warehouse with events, a refused row and histories of ann and bob; a segment is called ann, too."""
    tiny_warehouse.write(lake)
    for n, user in enumerate(("ann", "bob", "ann")):
        lake.append(tiny_warehouse.frame(lake, EVENTS, [{"event_id": f"e{n}", "user_id": user, "item_id": "tea"}]), EVENTS, {"batch_id": 1})
    refused = [{"row_hash": h, "raw": f"{who};tea;someday"} for h, who in (("r1", "ann"), ("r2", "bob"), ("r3", "hannah"), ("r4", "ann-2"))]
    lake.append(tiny_warehouse.frame(lake, QUARANTINE, refused), QUARANTINE, {"batch_id": 1})
    arrays = {c.name: [] for c in SEQUENCES.columns if c.type.startswith("array")}
    lake.append(tiny_warehouse.frame(lake, SEQUENCES, [{"user_id": u, **arrays} for u in ("ann", "bob")]), SEQUENCES, {"as_of_us": 7})
    segment = list(tiny_warehouse.LISTS[0])
    segment[1], segment[2] = "mail", "segment"
    row = tiny_warehouse.frame(lake, RECOMMENDATIONS, [tiny_warehouse.list_row(tuple(segment))])
    lake.append(row, RECOMMENDATIONS, {"run_date": str(date(2024, 3, 1))})
    for folder in ("_staging/night", "_reports/night", "_contests/shop/lists/blend.1", "_contests/shop/nights", "_contests/shop/_models"):
        (Path(lake.root) / folder).mkdir(parents=True)
    return lake


def users_of(lake: Lake, table) -> set[str]:
    return {r[0] for r in lake.read(table).select("user_id").distinct().collect()}


def test_a_user_is_gone_and_the_others_stay(kept: Lake):
    bob = kept.read(RECOMMENDATIONS).where("user_id = 'bob'").count()
    hers = {t.name: kept.read(t).where("user_id = 'ann'").count() for t in (EVENTS, SEQUENCES, USERS)}
    refused = kept.read(QUARANTINE).where("raw LIKE 'ann;%'").count()
    others = users_of(kept, EVENTS) - {"ann"}
    logs_before = set(Path(kept.root).rglob("_delta_log/*.json"))
    erased = erase.run(kept, "ann")
    assert min(hers.values()) > 0 and refused > 0
    assert {t: n for t, n in erased.items() if n} == {**hers, "events_quarantine": refused, "recommendations": 7}
    assert users_of(kept, EVENTS) == others and "bob" in others
    assert "ann" not in users_of(kept, SEQUENCES) | users_of(kept, USERS) and "bob" in users_of(kept, SEQUENCES)
    assert {r.raw.split(";")[0] for r in kept.read(QUARANTINE).collect()} == {"bob", "hannah", "ann-2"}
    left = kept.read(RECOMMENDATIONS)
    assert left.where("user_id = 'bob'").count() == bob and left.where("user_id = 'ann'").select("audience").collect() == [("segment",)]
    assert not any((Path(kept.root) / folder).exists() for folder in ("_staging", "_reports"))
    assert [p.name for p in Path(kept.root).glob("_contests/shop/*")] == ["_models"]
    assert kept.note(SEQUENCES) == {"as_of_us": 7}      # the next night goes on from there
    for log in set(Path(kept.root).rglob("_delta_log/*.json")) - logs_before:
        conditions = [line for line in log.read_text().splitlines() if '"commitInfo"' in line]
        assert conditions and all("ann" not in line for line in conditions)
    assert not any(erase.run(kept, "ann").values())     # again: nothing is left to do
