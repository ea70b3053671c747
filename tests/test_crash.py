"""kill -9 at three points of a night, with a reader looking on: readers see a whole night, old or new, and the retry ends right.

The killed runs are processes of their own, with their own JVM (recs/serve/faults.py kills both).
"""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "serve"))
from night_world import bring, config, events, night, write_static  # noqa: E402

from recs.jobs import publish as publish_job  # noqa: E402
from recs.jobs import recommend as recommend_job  # noqa: E402
from recs.report.show import rows  # noqa: E402
from recs.report.views import connect  # noqa: E402
from recs.schemas import NIGHTS, RECOMMENDATIONS  # noqa: E402
from recs.serve import nights  # noqa: E402
from recs.serve.staging import content  # noqa: E402
from recs.tables import Lake  # noqa: E402

pytestmark = pytest.mark.slow

# the tail of a night: plan, recommend, publish; argv: tests folder, root, model, item tables, list
NIGHT = """
import sys
sys.path[:0] = [sys.argv[1]]
from night_world import config, night
from recs.config import SparkConfig
from recs.jobs import publish, recommend
from recs.jobs._cli import run_job
from recs.serve import nights
from recs.session import start
from recs.tables import Lake, lease

def body():
    root, model, tables, name, wait = sys.argv[2:]
    with lease(root, wait_s=float(wait)):
        spark = start("killed", SparkConfig(master="local[2,4]", shuffle_partitions=4, driver_memory="1g"))
        lake = Lake(spark, root)
        attempt = nights.plan(lake, night(1), name, config_hash="c", code_version="v")
        attempt, _ = recommend.run(
            spark, lake, config(name), attempt, model_path=model, model_version="personal-2024-10-01-abc", tables_path=tables)
        decision = publish.run(spark, lake, config(name), attempt)
    print("DECIDED", decision.decision, decision.attempt, decision.content.hash)
    return 0 if decision.is_published else 3

sys.exit(run_job(body))
"""


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash")
    lake = Lake(spark, folder / "lake")
    every = events()
    write_static(lake, every)
    world = bring(lake, folder, every, 1)
    run_here(world, "reference")
    return world


def run_here(world, name: str):
    """The same tail of a night in this process."""
    attempt = nights.plan(world.lake, night(1), name, config_hash="c", code_version="v")
    attempt, _ = recommend_job.run(world.lake.spark, world.lake, config(name), attempt, **world.facts())
    return publish_job.run(world.lake.spark, world.lake, config(name), attempt)


def start_night(world, name: str, fault: str = "", wait: float = 0) -> subprocess.Popen:
    where = [Path(__file__).parent / "serve", world.lake.root, world.model, world.tables, name, wait]
    script = [sys.executable, "-c", NIGHT, *map(str, where)]
    env = {**os.environ, **({"RECS_FAULT": fault} if fault else {})}
    return subprocess.Popen(script, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lists(world, name: str) -> list[tuple]:
    rows = world.lake.read(RECOMMENDATIONS).where(f"list_name = '{name}'")
    return sorted(map(tuple, rows.select("audience", "user_id", "rank", "item_id", "score", "source").collect()))


class Reader(threading.Thread):
    """Reads one list over and over without a JVM; keeps every state it ever saw."""

    def __init__(self, root: str, name: str) -> None:
        super().__init__(daemon=True)
        self.sql = f"SELECT count(*) AS n, coalesce(sum(score), 0) AS s FROM recommendations WHERE list_name = '{name}'"
        self.root, self.seen, self.reads, self.stop = root, set(), 0, threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            row = rows(connect(self.root), self.sql)[0]
            self.seen.add((row["n"], round(row["s"], 6)))
            self.reads += 1
            time.sleep(0.01)

    def done(self) -> set[tuple]:
        self.stop.set()
        self.join(60)
        return self.seen


@pytest.mark.parametrize("point", ["after_staging", "during_commit", "after_commit"])
def test_a_killed_night_leaves_a_whole_one_and_the_retry_ends_right(world, point):
    reference = lists(world, "reference")
    nothing, whole = (0, 0), (len(reference), round(sum(r[4] for r in reference), 6))
    before = world.lake.version(RECOMMENDATIONS)
    reader = Reader(world.lake.root, point)
    reader.start()
    killed = start_night(world, point, fault=point)
    out, err = killed.communicate(timeout=1500)
    assert killed.returncode == -9, err[-3000:]
    after = world.lake.version(RECOMMENDATIONS)
    committed = point == "after_commit"
    assert after - before == int(committed)
    assert lists(world, point) == (reference if committed else [])
    if point == "during_commit":    # new files lie there, and no reader sees them
        partition = Path(world.lake.path(RECOMMENDATIONS)) / f"run_date={night(1).run_date}" / f"list_name={point}"
        assert list(partition.glob("*.parquet"))
    booked = [(r["attempt"], r["decision"]) for r in nights.rows_of(world.lake, point)]
    assert booked == [(1, "started")]
    decision = run_here(world, point)
    assert (decision.decision, decision.attempt) == ("published", 1)
    assert lists(world, point) == reference
    assert content(world.lake.read(RECOMMENDATIONS).where(f"list_name = '{point}'")) == decision.content
    booked = nights.rows_of(world.lake, point)
    assert [(r["attempt"], r["decision"]) for r in booked] == [(1, "started"), (1, "published")]
    assert booked[-1]["delta_version"] == before + 1
    assert world.lake.version(RECOMMENDATIONS) == before + 1    # one commit, whenever it was made
    seen = reader.done()
    assert reader.reads > 10
    assert seen <= {nothing, whole}, seen
    assert whole in seen


def test_of_two_nights_at_once_one_waits_or_stops_with_a_clear_line(world):
    waiting = [start_night(world, "two", wait=500) for _ in range(2)]
    ends = [p.communicate(timeout=1500) for p in waiting]
    assert [p.returncode for p in waiting] == [0, 0], [e[1][-2000:] for e in ends]
    assert len({out.split("DECIDED")[1] for out, _ in ends}) == 1       # the same attempt, the same content
    assert lists(world, "two") == lists(world, "reference")
    with_lease = Path(world.lake.root) / "_leases"
    from recs.tables import lease

    with lease(world.lake.root):
        refused = start_night(world, "two")
        _, err = refused.communicate(timeout=900)
    assert refused.returncode == 4
    line = [x for x in err.splitlines() if x.startswith("recs:")]
    assert len(line) == 1
    assert f"another run holds the lease {with_lease}" in line[0]
    assert "--wait SECONDS" in line[0]
    assert world.lake.read(NIGHTS).where("list_name = 'two' AND decision = 'started'").count() == 1
