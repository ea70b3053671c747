"""The whole night in one Spark session: raw log in, ranked lists per user published in a Delta table.

reads   raw files named by --input, --items, --users (a generated log when the configuration has a `demo`)
writes  every table under --root; ends with what became of the lists before (jobs/score_outcomes.py), a page (jobs/report.py), a summary

    recs night                                                    # the embedded default
    recs night --config my.yaml --root /data/recs --input 'raw/2024-03-30/*.gz' --run-date 2024-03-31

A re-run of a published night takes the tuple of the first run (as_of, highest batch, item tables, model) and gives the same
content hash; `--refresh` takes what arrived since as a new attempt.  Exit codes: 3 the night was held, 4 another run is at work.
"""
from __future__ import annotations

import argparse
import logging
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from recs.clock import Night, parse_date, parse_instant, parse_zone
from recs.config import Config, ConfigError
from recs.etl.news import State
from recs.generate import GenerateConfig, generate, make_config
from recs.jobs import _champion, _pages, derive, ingest, item_tables, publish, recommend, score_outcomes, text_vectors
from recs.jobs._cli import HELD, RunRecord, _typed, add_wait, code_version, load, parser, run_job
from recs.judge import champions
from recs.report.night import summary
from recs.report.progress import Steps
from recs.serve import nights
from recs.serve.publish import Decision
from recs.session import start
from recs.tables import Lake, lease

log = logging.getLogger(__name__)


def run(lake: Lake, config: Config, args: argparse.Namespace, steps: Steps) -> Decision:
    """One night from raw files to a decision; `steps` times and shows each step."""
    spark = lake.spark
    night = _night(config, args)
    source = _source(lake, config, args, night, steps)
    with steps("ingest") as counts:
        counts.update(ingest.run(spark, lake, config, *source, now=args.now).counts())
    if config.text and config.log.items:
        with steps("text_vectors") as counts:
            counts.update(text_vectors.run(spark, lake, config))
    attempt = nights.plan(lake, night, config.lists.name, config_hash=config.hash, code_version=code_version(), refresh=args.refresh)
    derived = derive.bring(lake, config, attempt.night.as_of, attempt.max_batch, steps)
    with steps("train") as counts:
        model = _champion.of_the_night(lake, config, derived, attempt, anew=args.train)
        counts.update(model.counts())
    with steps("item_tables") as counts:
        state = State(attempt.night.as_of_us, attempt.max_batch)
        tables = item_tables.run(spark, lake, config, attempt.night.as_of, model.needs, derived=derived, state=state)
        counts.update(items=tables.n_items, kinds=len(tables.kinds))
    with steps("recommend") as counts:
        attempt, staged = recommend.run(
            spark, lake, config, attempt, model_path=model.path, model_version=model.version, model_hash=model.row["content_hash"],
            tables_path=tables.path, derived=derived, changed_only=args.changed_only,
        )
        counts.update(staged)
    with steps("publish") as counts:
        decision = publish.run(spark, lake, config, attempt, derived=derived, wait_s=args.wait)
        counts.update(lists=decision.content.n_lists, rows=decision.content.n_rows)
    return decision


def _the_morning_after(lake: Lake, config: Config, steps: Steps) -> list[tuple[str, str]]:
    """Lines and their style: what became of the lists of the days that are over.  It does not change how this night ends."""
    try:
        with lease(lake.root, "outcomes", wait_s=600):
            if not (counted := score_outcomes.run(lake, config, None, score_outcomes.DAYS, steps)):
                return []
            with steps("reports") as counts:
                counts.update(pages_again=len(_pages.renewed(lake.root, config.lists.name, config.clock.zone, counted)))
            fell, newest = score_outcomes.told(lake, config)
    except Exception as e:      # whatever it is: tonight's lists stand, and the days are counted by the next run
        log.exception("outcomes")
        return [(f"outcomes were not counted ({type(e).__name__}); recs score-outcomes tries again", "red")]
    return [(newest, ""), *([(fell, "red")] if fell else [])]


def _night(config: Config, args: argparse.Namespace) -> Night:
    """The night asked for; by default today's in the configured zone, for the generated log the one that follows it."""
    run_date = args.run_date or (_demo(config).end_date + timedelta(days=1) if _is_demo(config, args) else _today(config))
    return Night.of(run_date, config.clock.zone, config.clock.lead)


def _today(config: Config) -> date:
    return datetime.now(parse_zone(config.clock.zone)).date()


def _is_demo(config: Config, args: argparse.Namespace) -> bool:
    return config.demo is not None and not args.input


def _demo(config: Config) -> GenerateConfig:
    return make_config(**(config.demo or {}))


def _source(lake: Lake, config: Config, args: argparse.Namespace, night: Night, steps: Steps) -> tuple[list[str], list[str], list[str]]:
    """Raw files of events, items and users; the generated log is made once, kept beside the tables, and read by day of arrival."""
    if not _is_demo(config, args):
        if not args.input and not args.run_date:
            raise ConfigError("name raw files with --input, or a night to run again with --run-date")
        return args.input, args.items, args.users
    log = f"{lake.root}/_demo_log"
    with steps("generate") as counts:
        counts.update(generate(lake.spark, log, _demo(config)))
    days = sorted(Path(log, "events").glob("arrival=*"))
    arrived = [str(day) for day in days if parse_date(day.name.removeprefix("arrival=")) < night.run_date]
    return arrived, [f"{log}/items"], [f"{log}/users"]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Flags: where and when; how is the configuration's."""
    p = parser(__doc__, night=True)
    p.add_argument("--input", nargs="+", default=[], metavar="PATH", help="raw event files, folders, globs; files read before are skipped")
    p.add_argument("--items", nargs="+", default=[], metavar="PATH", help="raw catalogue files")
    p.add_argument("--users", nargs="+", default=[], metavar="PATH", help="raw user files")
    p.add_argument("--now", type=_typed(parse_instant), metavar="INSTANT", help="the batch's clock, for replays (default: the real one)")
    p.add_argument("--refresh", action="store_true", help="a new attempt that knows what arrived since the first")
    p.add_argument("--changed-only", action="store_true", help="score users with new events, carry the others' lists forward")
    p.add_argument("--train", action="store_true", help="fit the models anew even if the champion is fresh")
    add_wait(p)
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = arguments(argv)

    def body() -> int:
        config, console = load(args.config), Console()
        steps, record = Steps(console), RunRecord("night", args.root, config)
        facts: dict[str, Any] = {"run_date": _night(config, args).run_date, "list_name": config.lists.name, "decision": "failed"}
        try:
            with lease(args.root, wait_s=args.wait):
                with steps("start"):
                    lake = Lake(start("recs night", config.spark), args.root)
                decision = run(lake, config, args, steps)
                reigning = champions.why(lake)
                facts |= {"decision": decision.decision, "reason": decision.reason, "content_hash": decision.content.hash}
                became = _the_morning_after(lake, config, steps)
        finally:
            for name, seconds in steps.seconds.items():
                record.step(name, seconds, **steps.counts[name])
            record.write(**facts)
        pages = _pages.written(args.root, decision.list_name, config.clock.zone, [decision.run_date])     # after the record, which it tells
        summary(console, args.root, decision.run_date, decision.list_name, decision.audit, decision.is_published)
        for page in pages:
            console.print(f"report: {page}", highlight=False, soft_wrap=True)
        for line, style in became:
            console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
        console.print(reigning, highlight=False, soft_wrap=True)
        console.print(decision.line, style="green" if decision.is_published else "red", highlight=False)
        return 0 if decision.is_published else HELD

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
