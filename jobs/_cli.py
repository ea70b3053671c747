"""What every job shares: the flags for where and when, errors as one line with an exit code, the run record.

Exit codes: 0 done, 1 a bug or a broken machine (with traceback), 2 bad input or configuration, 3 the night was held, 4 somebody
else holds the lease, 5 the newest lists are too old (recs fresh), 6 the outcome fell (recs score-outcomes), 7 a model failed (recs
compare).
"""
from __future__ import annotations

import argparse
import difflib
import getpass
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import recs
from recs.clock import ClockError, parse_date, parse_instant
from recs.config import Config, ConfigError, load
from recs.evidence.item_tables import ArtifactError
from recs.jobs import _pages
from recs.schemas import ContractError
from recs.session import SessionError, start
from recs.tables import Lake, LeaseError, TableError

BAD_INPUT, HELD, LEASED, FAILED = 2, 3, 4, 7
USER_ERRORS = (ConfigError, ClockError, ContractError, SessionError, TableError, ArtifactError, FileNotFoundError)


class Parser(argparse.ArgumentParser):
    """One that names the nearest option when there is none as it was typed."""

    def parse_args(self, args=None, namespace=None):
        """As argparse does; an unknown option is named before a missing one."""
        typed = list(sys.argv[1:] if args is None else args)
        for word in typed[: typed.index("--") if "--" in typed else None]:
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                near = difflib.get_close_matches(name, self._option_string_actions, n=1)
                self.error(f"no option {name}: " + (f"did you mean {near[0]}?" if near else f"{self.prog} --help lists them"))
        return super().parse_args(typed, namespace)


def parser(doc: str, *, night: bool = False, as_of: bool = False) -> argparse.ArgumentParser:
    """The parser of a job: its docstring is the help; flags may not be abbreviated."""
    p = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--config", default="default", help="a YAML file, or the name of a shipped one (default: %(default)s)")
    p.add_argument("--root", default="warehouse", help="folder or URL of the tables (default: ./%(default)s)")
    if night:
        p.add_argument("--run-date", type=_typed(parse_date), metavar="YYYY-MM-DD", help="local date on which the lists are first served")
    if as_of:
        p.add_argument("--as-of", type=_typed(parse_instant), required=True, metavar="INSTANT", help="knowledge cut, 2024-03-31T00:00:00Z")
        p.add_argument("--max-batch", type=int, default=None, help="highest ingest batch to read (default: the newest)")
    return p


def add_wait(p: argparse.ArgumentParser) -> None:
    """--wait: for how long a job that takes the lease may wait for it."""
    p.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait this long for another run to finish")


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """argparse shows the text of its own error type only."""
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as e:
            raise argparse.ArgumentTypeError(str(e)) from e
    return convert


def run_job(body: Callable[[], int | None]) -> int:
    """Run a job's body; what the user can mend becomes one line on stderr and exit code 2 (a lease: 4)."""
    logging.basicConfig(level=os.environ.get("RECS_LOG", "WARNING"), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return body() or 0
    except LeaseError as e:
        print(f"recs: {e}", file=sys.stderr)
        return LEASED
    except USER_ERRORS as e:
        print(f"recs: {e}", file=sys.stderr)
        return BAD_INPUT
    except ValueError as e:
        # our own refusals are ValueErrors of our own modules; anything else is a bug and keeps its traceback
        if type(e).__module__.startswith("recs."):
            print(f"recs: {e}", file=sys.stderr)
            return BAD_INPUT
        raise


def decide_by_hand(doc: str, name: str, decide: Callable[..., Any], argv: list[str] | None) -> int:
    """The command of a person's decision about a night (`release`, `hold`): which night, why; who is the login."""
    p = parser(doc)
    p.add_argument("run_date", type=_typed(parse_date), metavar="YYYY-MM-DD", help="the night")
    p.add_argument("--list", default="main", dest="list_name", help="which list (default: %(default)s)")
    p.add_argument("--reason", required=True, help="why, in words; kept in the table")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        lake = Lake(start(f"recs {name}", config.spark), args.root)
        print(decide(lake, args.run_date, args.list_name, args.reason, getpass.getuser(), args.wait).line)
        _pages.renewed(args.root, args.list_name, config.clock.zone, [args.run_date])

    return run_job(body)


def code_version() -> str:
    """Version of the package, and the git commit where the code stands in a checkout."""
    folder = Path(recs.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return recs.__version__
    git = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return f"{recs.__version__}+{head}" if head else recs.__version__


class RunRecord:
    """What a run did: configuration, code, rows in and out, seconds per step; written to root/_runs when the run ends."""

    def __init__(self, job: str, root: str, config: Config) -> None:
        self.job, self.root = job, root
        self.started = datetime.now(UTC)
        self._t0 = time.monotonic()
        self.body: dict[str, Any] = {
            "job": job, "started_at": self.started.isoformat(), "code_version": code_version(), "config_hash": config.hash,
            "config": config.model_dump(mode="json"), "steps": {},
        }

    def step(self, name: str, seconds: float, **counts: Any) -> None:
        """Note one step: seconds and counts."""
        self.body["steps"][name] = {"seconds": round(seconds, 2), **counts}

    def write(self, **facts: Any) -> None:
        """Local roots only: elsewhere the same facts are in the commits' notes and in `nights`."""
        if "://" in self.root:
            return
        self.body |= {"seconds": round(time.monotonic() - self._t0, 2), **facts}
        folder = Path(self.root) / "_runs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.started:%Y%m%dT%H%M%S%f}-{self.job}.json"
        path.write_text(json.dumps(self.body, indent=1, sort_keys=True, default=str))


__all__ = ["BAD_INPUT", "FAILED", "HELD", "LEASED", "RunRecord", "code_version", "load", "parser", "run_job"]
