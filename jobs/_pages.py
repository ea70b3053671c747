"""Pages of nights as a by-product of other jobs: one that cannot be written is a warning and changes nothing."""
from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from recs.report.page import night

log = logging.getLogger(__name__)


def written(root: str, list_name: str, zone: str, run_dates: Iterable[date]) -> list[Path]:
    """Pages of nights, where the tables are local.

    The warning names the night and the kind of fault, no more: what DuckDB says may hold a user's id.
    """
    out: list[Path] = []
    for run_date in run_dates if "://" not in root else ():
        try:
            out.append(night.write(root, list_name, run_date, zone=zone))
        except Exception as e:      # whatever it is: the lists of the night stand
            log.warning("no page of night %s (%s): recs report --run-date %s tries again", run_date, type(e).__name__, run_date)
    return out


def renewed(root: str, list_name: str, zone: str, changed: Iterable[date]) -> list[Path]:
    """Pages that are there already and say something else now that these days were counted or decided: theirs, and the newest one."""
    days = set(changed)
    if not days or "://" in root:
        return []
    pages = night.pages(root, list_name)
    return written(root, list_name, zone, [d for d in pages if d in days or d == max(pages)])
