"""### Training

Examples, models, their past nights, the decision: a candidate becomes champion only if it earned it (docs/decisions/0006). The night fits
its models by itself when they are due; this DAG does it on another machine, or on another day, and keeps the evidence.
"""
from __future__ import annotations

import pendulum
from airflow.sdk import CronDataIntervalTimetable, Param
from commands import AS_OF, WAIT_S, ZONE, submit
from common import dag, params, task

with dag(
    "recs_training", __doc__, CronDataIntervalTimetable("0 3 * * 1", timezone=ZONE), start_date=pendulum.datetime(2024, 1, 1, tz=ZONE),
    params=params(nights=Param(7, type="integer", minimum=1, maximum=366, description="past nights that are asked again")),
):
    examples = task("build_examples", submit("build_examples", AS_OF))
    train = task("train", submit("train", AS_OF))
    evaluate = task("evaluate", submit("evaluate", "--nights {{ params.nights }}"))
    promote = task("promote", submit("promote", f"--wait {WAIT_S}"))
    examples >> train >> evaluate >> promote
