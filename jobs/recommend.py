"""Make the night's lists and stage them: active users' from the model, one per segment for everybody else.

reads   sequences, item_hours, users, items, item_vocabulary, blocks, models, the item tables of the cut; with --changed-only
        recommendations, and with it or full sequences events
writes  root/_staging/<run_date>/<list>/<attempt>, in one commit; `recs publish` audits and publishes it

    recs recommend --root warehouse --run-date 2024-03-31
    spark-submit jobs/recommend.py --config my.yaml --root /data/recs --run-date 2024-03-31 --changed-only

Takes the champion, and the item tables of the cut; what of these is not there yet is made first, as in `recs night`.
"""
from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs.clock import Night, local_today
from recs.config import Config
from recs.etl.news import State
from recs.evidence.item_tables import ArtifactError, ItemTables
from recs.jobs import _champion, derive, item_tables
from recs.jobs._cli import RunRecord, add_wait, code_version, load, parser, run_job
from recs.report.progress import Steps
from recs.serve import nights, staging
from recs.serve.inputs import Inputs, Readable
from recs.serve.make import night_rows
from recs.session import start
from recs.tables import Lake, lease

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    spark: SparkSession, lake: Lake, config: Config, attempt: nights.Attempt, *, model_path: str | Path, model_version: str,
    tables_path: str | Path, model_hash: str | None = None, derived: Readable | None = None, changed_only: bool = False,
) -> tuple[nights.Attempt, dict[str, Any]]:
    """Stage the lists of an attempt; gives back the attempt with model and item tables filled in, and counts.

    `derived`: where sequences and item_hours stand at the attempt's state (default: the newest versions in the lake).
    `model_hash`: what the model's folder must hold (`content_hash` of `models`).  `changed_only` is asked of an attempt's first try: a
    re-run does what that one did.  Raises ArtifactError, before anything is written,
    when model or item tables are not those of the attempt's tuple.
    """
    made = attempt.made_with(ItemTables(tables_path).version, model_version)
    for what in ("item_tables", "model_version"):
        if (had := getattr(attempt, what)) not in ("", getattr(made, what)):
            now = getattr(made, what)
            raise ArtifactError(f"{attempt.name} was made with {what} {had}, now it is {now}; use --refresh for a new attempt")
    note = made.facts() | {"changed_only": lake.note(made.table).get("changed_only", changed_only)}
    with closing(Inputs(lake, derived or lake, config, made)) as inputs:
        staging.stage(lake, night_rows(inputs, model_path, tables_path, model_hash, note["changed_only"]), made.table, note)
    return made, {"rows staged": lake.rows_written(made.table, note)}


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__, night=True)
    p.add_argument("--refresh", action="store_true", help="a new attempt that knows what arrived since the first")
    p.add_argument("--changed-only", action="store_true", help="score users with new events, carry the others' lists forward")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config, steps = load(args.config), Steps()
        record = RunRecord("recommend", args.root, config)
        night = Night.of(args.run_date or local_today(config.clock.zone), config.clock.zone, config.clock.lead)
        made_by = {"config_hash": config.hash, "code_version": code_version()}
        with lease(args.root, wait_s=args.wait):
            lake = Lake(start("recs recommend", config.spark), args.root)
            attempt = nights.plan(lake, night, config.lists.name, **made_by, refresh=args.refresh)
            state = State.of(attempt.night.as_of, attempt.max_batch)
            derived = derive.bring(lake, config, attempt.night.as_of, attempt.max_batch, steps)
            model = _champion.of_the_night(lake, config, derived, attempt)
            tables = item_tables.run(lake.spark, lake, config, attempt.night.as_of, model.needs, derived=derived, state=state)
            with steps("recommend") as counts:
                counts.update(run(
                    lake.spark, lake, config, attempt, model_path=model.path, model_version=model.version,
                    model_hash=model.row["content_hash"], tables_path=tables.path, derived=derived, changed_only=args.changed_only,
                )[1])
        record.step("recommend", steps.seconds["recommend"], **steps.counts["recommend"])
        which = {"run_date": night.run_date, "list_name": config.lists.name, "attempt": attempt.number}
        record.write(**which, model_version=model.version, item_tables=tables.version)

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
