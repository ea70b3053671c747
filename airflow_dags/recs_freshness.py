"""### Freshness

Every morning: is there a list for today? Fails, and so alerts by whatever the installation does on failures, when the newest published
night is older than it should be: a night that was held, failed or never started.
"""
from __future__ import annotations

import pendulum
from airflow.sdk import CronTriggerTimetable, Param
from commands import ZONE, command
from common import dag, params, task

with dag(
    "recs_freshness", __doc__, CronTriggerTimetable("0 8 * * *", timezone=ZONE), start_date=pendulum.datetime(2024, 1, 1, tz=ZONE),
    params=params(days=Param(0, type="integer", minimum=0, description="how many days old the newest night may be")),
    default_args={"retries": 0},
):
    task("fresh", command("fresh", "--days {{ params.days }}"))
