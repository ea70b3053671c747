"""Configuration: every shipped file loads, every mistake is named."""
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from recs.config import ConfigError, load

REPO = Path(__file__).resolve().parents[1]
MINIMAL = """
log:
  name: clicks
  events:
    source: {format: json}
    user_id: u
    item_id: i
    time: {kind: epoch_s, expr: t}
models: [popularity]
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(p.stem for p in (REPO / "configs").glob("*.yaml")))
def test_every_shipped_configuration_loads(name: str):
    assert load(name).models


def test_a_minimal_file_is_enough_and_durations_are_readable(tmp_path: Path):
    config = load(written(tmp_path, MINIMAL + "sessions: {gap: 45m}\n"))
    assert config.sessions.gap == timedelta(minutes=45)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sesions: {gap: 1h}", "sesions"),                          # misspelt key
        ("sessions: {gap: soon}", "sessions.gap"),                  # not a duration
        ("clock: {zone: Europe/Atlantis}", "clock.zone"),           # no such zone
        ("lists: {k: 0}", "lists.k"),                               # out of range
        ("extends: nothing", "no configuration 'nothing'"),         # unknown base
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        load(written(tmp_path, MINIMAL + text))


@pytest.mark.parametrize(("models", "message"), [("[blend, blend]", "a model is named twice"), ("[]", "at least 1 item")])
def test_the_contest_has_each_model_once(tmp_path: Path, models: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load(written(tmp_path, MINIMAL.replace("[popularity]", models)))


def test_where_spark_runs_is_not_part_of_the_hash(tmp_path: Path):
    assert load(written(tmp_path, MINIMAL)).hash == load(written(tmp_path, MINIMAL + "spark: {driver_memory: 8g}")).hash
    assert load(written(tmp_path, MINIMAL)).hash != load(written(tmp_path, MINIMAL + "lists: {k: 5}")).hash
