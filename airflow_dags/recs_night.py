"""### The night

From raw files to published lists, a submit per stage; `publish` audits. **Held** nights show as *skipped* from `publish` to `published`:
yesterday's lists stay, the log of `publish` says why, and `recs release RUN_DATE --reason …` publishes after all.

Then, held or not, `report` writes the night's page, an HTML file beside the tables, and comes the morning after: `outcomes` holds the
lists of the days that ended with this cut against what users did. It **fails** when the outcome fell (exit code 6; the log says what, by
how much and where to look); the night itself is published by then.

A run is about one local day. Trigger it by hand with `run_date` to make any night again (a night that was published gives the same
lists), or backfill a month, every night with the model it could have had:
`airflow backfill create --dag-id recs_night --from-date 2024-03-01 --to-date 2024-03-31 --max-active-runs 1`.
"""
from __future__ import annotations

import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, CronDataIntervalTimetable, Param, chain
from commands import AS_OF, NIGHT, WAIT_S, ZONE, command, default, submit
from common import dag, params, task

EVENTS_READY, NIGHT_PUBLISHED = Asset("recs://events"), Asset("recs://night")
SOURCES = " ".join(
    f"{{{{ paths('--{name}', params['{name}'], params, data_interval_end) }}}}" for name in ("input", "items", "users"))

with dag(
    "recs_night", __doc__, CronDataIntervalTimetable("0 0 * * *", timezone=ZONE), start_date=pendulum.datetime(2024, 1, 1, tz=ZONE),
    params=params(
        input=Param(default("INPUT"), type="string", description="event files; {day} is the last day before the cut, {run_date} the night"),
        items=Param(default("ITEMS"), type="string", description="catalogue files"),
        users=Param(default("USERS"), type="string", description="user files"),
        refresh=Param(False, type="boolean", description="a new attempt that knows what arrived since the first"),
        changed_only=Param(False, type="boolean", description="score users with new events, carry the others' lists forward"),
    ),
):
    ingest = task("ingest", "{% if params.input %}" + submit("ingest", SOURCES, f"--wait {WAIT_S}")
                  + "{% else %}echo 'no input named: the tables stand as they are'{% endif %}", outlets=[EVENTS_READY])
    # tables that are past an earlier night stay where they are: recommend makes that night beside them
    derived = [task(job, submit(job, AS_OF, f"--forward-only --wait {WAIT_S}")) for job in ("sessionize", "item_hours", "sequences")]
    flags = "{{ '--refresh' if params.refresh else '' }} {{ '--changed-only' if params.changed_only else '' }}"
    recommend = task("recommend", submit("recommend", NIGHT, f"--wait {WAIT_S}", flags))
    publish = task("publish", submit("publish", NIGHT, f"--wait {WAIT_S}"))
    published = EmptyOperator(task_id="published", outlets=[NIGHT_PUBLISHED])
    # a page that cannot be written keeps nobody from the lists: the line stands in the log
    no_page = " || echo 'recs: the page of this night was not written'"
    report = task("report", command("report", NIGHT) + no_page, trigger_rule="none_failed")
    # a failure here is a message, not an accident: nothing is tried again; what could not be counted is counted by the next night
    outcomes = task("outcomes", submit("score_outcomes", AS_OF, f"--wait {WAIT_S}"), trigger_rule="none_failed", retries=0)
    chain(ingest, *derived, recommend, publish, published, report, outcomes)
