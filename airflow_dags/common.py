"""What the DAGs share: parameters with their schemas, retries, one run at a time."""
from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param
from commands import HELD, MACROS, default

# A job that is repeated takes the same tuple and gives the same result, and a commit that was made is found: retries are safe.
RETRIES = {"retries": 2, "retry_delay": timedelta(minutes=5), "depends_on_past": False}


def params(**more: Param) -> dict[str, Param]:
    """`config`, `root`, `run_date` and more."""
    return {
        "config": Param(default("CONFIG", "default"), type="string", minLength=1, description="a YAML file, or the name of a shipped one"),
        "root": Param(default("ROOT", "warehouse"), type="string", minLength=1, description="folder or URL of the tables"),
        "run_date": Param(
            None, type=["null", "string"], format="date", pattern=r"^\d{4}-\d{2}-\d{2}$",
            description="the night to make; empty: that of the data interval"),
        **more,
    }


def dag(dag_id: str, doc: str, schedule: object, **more: object) -> DAG:
    """A DAG that never runs beside itself and never catches up by itself (`airflow backfill create` does, when somebody asks)."""
    settings = {"catchup": False, "max_active_runs": 1, "default_args": RETRIES, "user_defined_macros": MACROS, "tags": ["recs"]}
    return DAG(dag_id, schedule=schedule, doc_md=doc, render_template_as_native_obj=False, **{**settings, **more})


def task(task_id: str, command: str, **more: object) -> BashOperator:
    """A command; exit code 3 (the night is held) shows as skipped, with the job's own line in the log, and is not tried again."""
    return BashOperator(task_id=task_id, bash_command=command, skip_on_exit_code=HELD, append_env=True, **more)
