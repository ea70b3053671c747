"""The whole night in one Spark session: raw log in, ranked lists per user published in a Delta table.

reads   raw files named by --input, --items, --users (a generated log when the configuration has a `demo`)
writes  every table under --root; ends with a summary

    recs night                                                    # the embedded default
    recs night --config my.yaml --root /data/recs --input 'raw/2024-03-30/*.gz' --run-date 2024-03-31

A re-run of a published night takes the tuple of the first run (as_of, highest batch, item tables, model) and gives the same
content hash; `--refresh` takes what arrived since as a new attempt.  Exit codes: 3 the night was held, 4 another run is at work.
"""
from __future__ import annotations

import argparse
import os
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console

from recs.clock import Night, parse_date, parse_instant
from recs.config import Config
from recs.jobs import derive, generate, ingest, item_tables, publish, recommend, train
from recs.jobs._cli import BAD_INPUT, HELD, RunRecord, _typed, code_version, load, parser, run_job
from recs.report.night import summary
from recs.report.progress import Steps
from recs.schemas import ALL_TABLES, BATCHES
from recs.session import start
from recs.tables import Lake, lease


def arguments(argv: list[str] | None) -> argparse.Namespace:
    p = parser(__doc__, night=True)
    p.add_argument("--input", nargs="+", default=[], metavar="PATH", help="raw event files, folders or patterns; files already read are skipped")
    p.add_argument("--items", nargs="+", default=[], metavar="PATH", help="raw catalogue files")
    p.add_argument("--users", nargs="+", default=[], metavar="PATH", help="raw user files")
    p.add_argument("--now", type=_typed(parse_instant), metavar="INSTANT", help="the clock against which future events are refused (default: the real one)")
    p.add_argument("--refresh", action="store_true", help="a new attempt that knows what arrived since the first")
    p.add_argument("--changed-only", action="store_true", help="score users with new events, carry the others' lists forward")
    p.add_argument("--train", action="store_true", help="fit the models anew even if the champion is fresh")
    p.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait this long for another run to finish")
    return p.parse_args(argv)
