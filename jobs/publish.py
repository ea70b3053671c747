"""Audit the staged lists of a night, then publish them in one commit, or hold the night: yesterday's lists stay.

reads   root/_staging/<run_date>/<list>/<attempt>, and what the lists are held against (users, items, sequences, blocks, yesterday)
writes  recommendations (one partition), nights

    recs publish --root warehouse --run-date 2024-03-31
    spark-submit jobs/publish.py --config my.yaml --root /data/recs --run-date 2024-03-31 --wait 600

Exit code 3: the night was held, and one line says why.  4: somebody else is at work; `--wait SECONDS` waits.
"""
from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

from recs.clock import Night, local_today
from recs.config import Config
from recs.jobs import derive
from recs.jobs._cli import HELD, RunRecord, add_wait, code_version, load, parser, run_job
from recs.models import model_class
from recs.report.progress import Steps
from recs.serve import nights
from recs.serve.audit import audit
from recs.serve.inputs import Inputs, Readable, recipe
from recs.serve.publish import Decision, PublishError, decide, staged_rows
from recs.serve.staging import content
from recs.session import start
from recs.tables import Lake, lease

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    spark: SparkSession, lake: Lake, config: Config, attempt: nights.Attempt, *, derived: Readable | None = None, wait_s: float = 0.0,
) -> Decision:
    """Audit what is staged for an attempt, publish it or hold the night.

    `attempt` as `recs.jobs.recommend.run` gave it back (or `nights.plan`, which finds its tuple in the note of the staged rows).
    """
    staged = staged_rows(lake, attempt)
    seen = content(staged)
    with closing(Inputs(lake, derived or lake, config, attempt)) as inputs:
        results = audit(staged, inputs.against(model_class(recipe(attempt.model_version)).personal), config.audit)
    return decide(lake, attempt, staged, seen, results, wait_s)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__, night=True)
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> int:
        config = load(args.config)
        record = RunRecord("publish", args.root, config)
        night = Night.of(args.run_date or local_today(config.clock.zone), config.clock.zone, config.clock.lead)
        with lease(args.root, wait_s=args.wait):
            lake = Lake(start("recs publish", config.spark), args.root)
            if not nights.rows_of(lake, config.lists.name, night.run_date):     # to plan would book the night with today's batch
                raise PublishError(f"night {night.run_date} of list {config.lists.name}: nothing is staged; run `recs recommend` first")
            attempt = nights.plan(lake, night, config.lists.name, config_hash=config.hash, code_version=code_version())
            derived = derive.bring(lake, config, attempt.night.as_of, attempt.max_batch, Steps())
            decision = run(lake.spark, lake, config, attempt, derived=derived, wait_s=args.wait)
        which = {"run_date": night.run_date, "list_name": config.lists.name, "attempt": attempt.number}
        record.write(**which, decision=decision.decision, reason=decision.reason, content_hash=decision.content.hash)
        print(decision.line, file=sys.stdout if decision.is_published else sys.stderr)
        return 0 if decision.is_published else HELD

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
