"""Configuration: every shipped file loads, every mistake is named."""
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from recs.clock import DAY
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
        ("fit: {every: often}", "fit.every"),                       # no policy
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


@pytest.mark.parametrize(
    ("every", "age_d", "due"), [("7d", 7, True), ("7d", 6, False), ("nightly", 1, True), ("nightly", 0, False), ("never", 999, False)],
)
def test_when_a_model_is_fitted_anew_is_a_policy(tmp_path: Path, every: str, age_d: int, due: bool):
    fit = load(written(tmp_path, MINIMAL + f"fit: {{every: {every}}}\n")).fit
    assert fit.is_due(1_000 * DAY, (1_000 + age_d) * DAY) is due


@pytest.mark.parametrize(("every", "days"), [("7d", 6), ("12h", 0), ("nightly", 0), ("never", None)])
def test_a_fit_serves_until_the_next(tmp_path: Path, every: str, days: int | None):
    fit = load(written(tmp_path, MINIMAL + f"fit: {{every: {every}}}\n")).fit
    assert fit.serves_us == (None if days is None else days * DAY)


def test_nights_trained_on_at_most_are_not_fewer_than_at_least(tmp_path: Path):
    with pytest.raises(ConfigError, match="max_train_nights 120 is below train_nights 200"):
        load(written(tmp_path, MINIMAL + "fit: {train_nights: 200}\n"))


def test_what_learns_shares_its_lists_out_among_its_cuts(tmp_path: Path):
    fit = load(written(tmp_path, MINIMAL + "fit: {max_users: 500, train_lists: 1000, light_lists: 8000}\n")).fit
    assert [fit.most_users(n, trains=False) for n in (1, 10)] == [500, 500]
    assert [fit.most_users(n, trains=True) for n in (1, 10)] == [500, 100]
    assert [fit.most_users(n, trains=True, light=True) for n in (1, 10)] == [8000, 800]


def test_gains_of_targets_are_weights_in_units_of_the_least(tmp_path: Path):
    types = "{view: {code: 1, weight: 0.5}, buy: {code: 7, weight: 2}, skip: {code: 3, weight: 0, target: false}}"
    config = load(written(tmp_path, MINIMAL.replace("    user_id", f"    event_types: {types}\n    user_id")))
    assert config.log.events.gains == {1: 1.0, 7: 4.0}
    assert load(written(tmp_path, MINIMAL)).log.events.gains == {1: 1.0}
    with pytest.raises(ConfigError, match="targets of weight 0: view; give them a weight"):
        load(written(tmp_path, MINIMAL.replace("    user_id", f"    event_types: {types.replace('0.5', '0')}\n    user_id")))


@pytest.mark.parametrize("more", ["spark: {driver_memory: 8g}", "keep: {nights: 3}", "outcomes: {max_drop: 0.5}"])
def test_what_changes_no_list_is_not_part_of_the_hash(tmp_path: Path, more: str):
    assert load(written(tmp_path, MINIMAL)).hash == load(written(tmp_path, MINIMAL + more)).hash


def test_what_changes_lists_is_part_of_the_hash(tmp_path: Path):
    assert load(written(tmp_path, MINIMAL)).hash != load(written(tmp_path, MINIMAL + "lists: {k: 5}")).hash


def test_a_file_may_extend_one_that_extends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = load(written(tmp_path, "extends: tiny\naudit: {max_item_share: 0.3}\n"))
    tiny = load("tiny")
    assert mine.audit.max_item_share == 0.3
    assert (mine.demo, mine.clock, mine.models) == (tiny.demo, tiny.clock, tiny.models)     # of tiny, and through it of default
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("extends: b.yaml")
    Path("b.yaml").write_text("extends: a.yaml")
    with pytest.raises(ConfigError, match="extends itself: a.yaml -> b.yaml -> a.yaml"):
        load("a.yaml")
