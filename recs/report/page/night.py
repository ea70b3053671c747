"""The page of one night: what the lists came to, what ran, whether it is right, what it is like, whom it is for.

    ROOT/_reports/main-2024-03-31.html

Read from the tables without a JVM.  Written by the night at its end, again on the morning after when the outcome is known, and by
`recs report` whenever somebody asks.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from recs.tables import TableError

from ..comparison import in_order
from ..phrases import phrases_of
from ..progress import figures
from ..show import Row
from ..views import connect
from . import html, pictures
from .drift import drift_of
from .facts import Night, arrived, became, booked, champion, model_of, night_of, records
from .lists import lists_of
from .people import people_of
from .timeline import clock, strip

if TYPE_CHECKING:
    import duckdb

FOLDER = "_reports"
PARTS = (
    ("outcome", "What became of it"), ("ran", "What ran"), ("rows", "Rows"), ("audit", "Audit"), ("quality", "Against popularity"),
    ("lists", "Coverage and concentration"), ("drift", "Drift"), ("people", "Ten users"),
)
BADGES = {"published": "good", "released": "warn", "started": "warn"}


def path_of(root: str | Path, list_name: str, run_date: date) -> Path:
    """Where a night's page lies.  TableError for a root that is a URL: name a file with --out there."""
    if "://" in str(root):
        raise TableError(f"{root} is a URL: a page is not written there; name a file (recs report --out night.html)")
    plain = re.sub(r"[^\w.-]", "_", list_name)
    return Path(root) / FOLDER / f"{plain}-{run_date}.html"


def pages(root: str | Path, list_name: str) -> list[date]:
    """Nights of a list whose page lies under a local root, ascending."""
    name = path_of(root, list_name, date.min).name.removesuffix(f"{date.min}.html")
    found = (re.fullmatch(rf"{re.escape(name)}(\d{{4}}-\d\d-\d\d)\.html", p.name) for p in (Path(root) / FOLDER).glob("*.html"))
    return sorted(date.fromisoformat(m[1]) for m in found if m)


def write(
    root: str | Path, list_name: str, run_date: date | None = None, *, zone: str = "UTC", language: str = "en", out: Path | None = None,
) -> Path:
    """The page of a night (default: the newest that was tried), written to its place or to `out`; the path.

    `zone` is that of users whose row names none, `language` that of the sentences (en, zh, a file of phrases).
    ShowError when there is no such night, TableError when there are no tables.
    """
    with connect(root) as con, TemporaryDirectory(prefix="recs-report-") as spill:
        con.execute("SET memory_limit = '2GB'")       # the night's JVM stands beside it; what is more goes to disk
        con.execute("SET temp_directory = $spill", {"spill": spill})
        night = night_of(con, list_name, run_date)
        path = out or path_of(root, list_name, night.run_date)
        text = rendered(con, root, night, zone, language)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")      # a reader never sees half a page
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path


def rendered(con: duckdb.DuckDBPyConnection, root: str | Path, night: Night, zone: str = "UTC", language: str = "en") -> str:
    """The page as text."""
    came, lists, drift, read = became(con, night), lists_of(con, night), drift_of(con, night), arrived(con, night)
    first = min([r["run_date"] for r in lists.made_of] + [night.run_date])
    known = booked(con, night, first)
    phrases = phrases_of(language)
    reigns, why = champion(con, night.last["decided_at"])
    return html.page(
        "night.html.j2", title=f"Night {night.run_date}, list {night.list_name}", language="en", parts=PARTS, night=night,
        badge=BADGES.get(night.last["decision"], "bad"), came=came, trend=pictures.trend(came), gains=pictures.gains(came),
        slices=_by_kind(came.slices), stages=_stages(records(root, night)), model=model_of(con, night.last["model_version"]),
        reigns=reigns, why=why, read=read, flow=pictures.rows_flow(read), lists=lists, spread=lists.spread.get(night.standing),
        of_lists=pictures.of_lists(lists, known), places=pictures.places_flow(lists, night), drift=drift,
        drifting=pictures.drifting(drift, night), lorenz=pictures.lorenz, people=people_of(con, night, phrases, zone), strip=strip,
        clock=clock, checks=_checks(night), made_at=datetime.now(UTC),
    )


def _checks(night: Night) -> list[Row]:
    """The audit, what failed first."""
    named = [{"name": name.replace("_", " "), "value": None, "limit": None, **c} for name, c in night.audit.items()]
    return sorted(named, key=lambda c: c["ok"])


def _by_kind(slices: Sequence[Row]) -> dict[str, list[Row]]:
    """Slices by what they cut by: histories and ages by length, others with the most lists first."""
    out: dict[str, list[Row]] = {}
    for s in slices:
        out.setdefault(s["kind"], []).append(s)
    for kind in {"history", "age"} & set(out):
        out[kind].sort(key=lambda s: in_order(f"{kind}={s['part']}"))
    return out


def _stages(found: Sequence[Row]) -> dict[str, Any]:
    """Stages of the night with their seconds and counts, and what the runs have in common."""
    steps = [
        {"name": name.replace("_", " "), "seconds": step["seconds"],
         "counts": figures({k: v for k, v in step.items() if k != "seconds" and not isinstance(v, dict | list)})}
        for record in found for name, step in _in_order(record)
    ]
    return {
        "steps": steps, "longest": max([s["seconds"] for s in steps], default=0.0) or 1.0, "seconds": sum(r["seconds"] for r in found),
        "code": sorted({r["code_version"] for r in found}), "started": found[0]["started_at"][:16].replace("T", " ") if found else "",
    }


ORDER = (
    "start", "generate", "ingest", "text_vectors", "sessionize", "item_hours", "sequences", "build_examples", "train", "judge",
    "item_tables", "recommend", "publish",
)


def _in_order(record: Row) -> list[tuple[str, Row]]:
    """Steps as they ran: records keep them by name."""
    place = {name: n for n, name in enumerate(ORDER)}
    return sorted(record["steps"].items(), key=lambda s: (place.get(s[0], len(ORDER)), s[0]))
