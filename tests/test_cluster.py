"""The night on a standalone cluster: one master, two workers, spark-submit, the code shipped as a zip."""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyspark
import pytest

from recs.session import DELTA_PACKAGE

REPO = Path(__file__).resolve().parents[1]
SPARK_HOME = Path(pyspark.__file__).parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", **more}


@pytest.fixture
def cluster(tmp_path: Path):
    """URL of a master with two workers of one core each."""
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    launch = [str(SPARK_HOME / "bin" / "spark-class")]
    commands = [
        ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"],
        *(["org.apache.spark.deploy.worker.Worker", "-c", "1", "-m", "2G", "--webui-port", "0", "-d", str(tmp_path / f"worker{i}"), url]
          for i in range(2)),
    ]
    processes = []
    for i, command in enumerate(commands):
        log = (tmp_path / f"daemon{i}.log").open("w")
        processes.append(subprocess.Popen(launch + command, env=environment(), stdout=log, stderr=log))
        time.sleep(3 if i == 0 else 0)
    deadline = time.monotonic() + 60
    while sum("Successfully registered" in (tmp_path / f"daemon{i}.log").read_text() for i in (1, 2)) < 2:
        assert time.monotonic() < deadline, "the workers did not register"
        time.sleep(0.5)
    yield url
    for p in processes:
        p.terminate()
    for p in processes:
        p.wait(30)


def shipped_code(folder: Path) -> Path:
    """The wheel under a name that `--py-files` accepts."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(REPO)]
    subprocess.run(build, check=True)
    return Path(shutil.copy(next(folder.glob("recs-*.whl")), folder / "recs.zip"))


@pytest.mark.slow
def test_the_night_runs_on_two_workers(cluster: str, tmp_path: Path):
    # the driver runs outside the checkout and finds library and configuration in the zip
    zipped = shipped_code(tmp_path)
    jars_dir = os.environ.get("RECS_JARS_DIR")
    jars = ["--packages", DELTA_PACKAGE]
    if jars_dir:
        jars = ["--jars", ",".join(map(str, sorted(Path(jars_dir).glob("*.jar"))))]
    script = shutil.copy(REPO / "jobs" / "night.py", tmp_path / "night.py")
    done = subprocess.run(
        [str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster, *jars, "--py-files", str(zipped),
         "--conf", "spark.executor.memory=1g", "--conf", "spark.sql.shuffle.partitions=4",
         str(script), "--config", "tiny", "--root", str(tmp_path / "lake")],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "published" in done.stdout
    # both workers ran an executor
    assert all(list((tmp_path / f"worker{i}").rglob("stderr")) for i in range(2))
