"""### Maintenance

Weekly: small files of the tables are put together and old versions removed (`recs compact`), files that no kept night needs go
(`recs clean`).
"""
from __future__ import annotations

import pendulum
from airflow.sdk import CronTriggerTimetable, Param
from commands import WAIT_S, ZONE, command, submit
from common import dag, params, task

with dag(
    "recs_maintenance", __doc__, CronTriggerTimetable("0 12 * * 0", timezone=ZONE), start_date=pendulum.datetime(2024, 1, 1, tz=ZONE),
    params=params(keep_days=Param(30, type="integer", minimum=7, description="how long past versions of the tables can be read")),
):
    compact = task("compact", submit("compact", "--keep-days {{ params.keep_days }}", f"--wait {WAIT_S}"))
    clean = task("clean", command("clean", f"--wait {WAIT_S}"))
    compact >> clean
