"""Fit the configured models on earlier nights: candidates, from which `recs promote` and the night choose the champion.

reads   sequences, item_hours, item_vocabulary, items (as of each earlier cut; nothing at or after the night's own cut)
writes  root/_models/<model_version>, models (one row per model), root/_examples (of models that train; kept for the next fit)

    recs train --root warehouse --as-of 2024-03-31T00:00:00Z
    spark-submit jobs/train.py --config my.yaml --root /data/recs --as-of 2024-03-31T00:00:00Z

The cuts are `fit.nights` horizons before the night: what a user met in [cut, cut + horizon) is what the lists of that cut are
held against.  The item tables of each cut are built from what was known then.
"""
from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recs.clock import Night, from_micros
from recs.config import Config
from recs.etl.news import State
from recs.jobs import derive, item_tables
from recs.jobs._cli import RunRecord, code_version, load, parser, run_job
from recs.judge import champions, replay
from recs.judge.exams import Cut, enough_cuts, exams_to_fit
from recs.judge.promotion import recipe_of
from recs.models import ModelError, Setting, grid_of, make, model_class
from recs.models import load as load_model
from recs.models.fitting import Fit
from recs.report.progress import Steps
from recs.schemas import ITEM_VOCABULARY, SEQUENCES
from recs.serve import nights
from recs.serve.artifacts import folder_hash
from recs.serve.inputs import Readable
from recs.serve.rules import Rules
from recs.session import start
from recs.tables import Lake, TableError, lease

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WARM_STARTS = "warm_starts"     # among a model's metrics
Row = champions.Row


@dataclass(frozen=True)
class Asked:
    """What a model is fitted on: what the log allows, item tables by number of the earlier night, and EXAM_COLUMNS."""

    setting: Setting
    tables: list[str | Path]
    exams: DataFrame


@dataclass(frozen=True)
class Trained:
    """A row of `models`, instants as microseconds (`trained_through_us`), with its folder at hand."""

    row: dict[str, Any]
    path: Path
    is_new: bool
    fit_s: float = 0.0      # of the fit itself, without the item tables of the earlier cuts; 0 for one that was at hand

    @property
    def version(self) -> str:
        """`model_version` of the row."""
        return self.row["model_version"]

    @property
    def needs(self) -> frozenset[str]:
        """Kinds of item tables the model reads."""
        model = load_model(self.path)
        return model.needs(model.params)

    def counts(self) -> dict[str, Any]:
        """For the summary: which model, whether it was fitted now, its figures on the earlier nights."""
        return {"champion": self.version, "fitted_now": self.is_new, **json.loads(self.row["metrics"])}


def fit_all(lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt) -> list[Trained]:
    """Fit every configured model on the nights before the attempt's; a candidate each in `models`, written together."""
    trained = fit_models(lake, config, derived, attempt, config.models, goes_on_from(lake, config, attempt.night.as_of_us))
    champions.add_candidates(lake, [t.row for t in trained])
    return trained


def fit_models(
    lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, names: Sequence[str], before: Row | None = None,
) -> list[Trained]:
    """Fit these models on the nights before the attempt's, into folders under the lake's root; `models` does not hear of it.

    `before`: a model whose weights the one of the same name goes on from.
    """
    return [fit_asked(lake, config, derived, attempt, name, asked(lake, config, derived, attempt, name), before) for name in names]


def fit_asked(
    lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, name: str, exams: Asked,
    before: Row | None = None, minutes: float | None = None, fixed: dict[str, Any] | None = None,
) -> Trained:
    """Fit one model on exams of `asked`; `minutes`: how long it may take, `fixed`: parameters that are not to be fitted."""
    earlier = before if before and before["name"] == name else None
    began = time.monotonic()
    fitted = replay.fit(
        name, exams.exams, exams.tables, exams.setting, _rules(config), config.fit.k, facts=_facts(derived, attempt),
        scratch=examples_folder(lake) if model_class(name).trains else None, histories=derived.read(SEQUENCES),
        before=load_model(at_hand(lake, earlier).path) if earlier else None,
        until=None if minutes is None else began + 60 * minutes, fixed=fixed,
    )
    if earlier:
        fitted = replace(fitted, metrics=fitted.metrics | {WARM_STARTS: _warm_starts(earlier) + 1})
    return replace(_saved(lake, config, attempt, name, fitted), fit_s=time.monotonic() - began)


def goes_on_from(lake: Lake, config: Config, as_of_us: int) -> Row | None:
    """The reigning model, where `fit.warm_starts` lets a refit of its recipe go on from its weights."""
    reigning = champions.champion(lake, as_of_us)
    if reigning is None or not model_class(reigning["name"]).trains or reigning["recipe"] != recipe_of(reigning["name"], config):
        return None
    return reigning if _warm_starts(reigning) < config.fit.warm_starts and not fault_of(lake, reigning) else None


def _warm_starts(row: Row) -> int:
    """How many refits lie between the model and one from scratch."""
    return int(json.loads(row["metrics"]).get(WARM_STARTS, 0))


def stage_examples(lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, name: str) -> dict[str, Any]:
    """Write the examples that `fit_models` will read for the same attempt, item tables of the earlier cuts included; what they are."""
    found = asked(lake, config, derived, attempt, name)
    return replay.stage(
        name, found.exams, found.tables, found.setting, _rules(config), config.fit.k, examples_folder(lake), _facts(derived, attempt))


def examples_folder(lake: Lake) -> Path:
    """Where examples are kept from one fit to the next."""
    return _folder(lake, "_examples")


def _facts(derived: Readable, attempt: nights.Attempt) -> dict[str, Any]:
    """The tables that examples are made from: their state, and their versions where they are tables of Delta."""
    return {"as_of_us": attempt.night.as_of_us, "max_batch": attempt.max_batch, "versions": getattr(derived, "versions", {})}


def _rules(config: Config) -> Rules:
    return Rules.of(config.lists.rules, config.log.events.event_types)


def setting_at(lake: Lake, config: Config) -> Setting:
    """What the log allows models; counts the vocabulary."""
    return replay.setting_of(config, lake.read(ITEM_VOCABULARY).count())


def kinds_of(setting: Setting, names: Sequence[str]) -> frozenset[str]:
    """Kinds of item tables that these models may read."""
    return frozenset(kind for name in names for params in grid_of(name, setting) for kind in model_class(name).needs(params))


def asked(
    lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, name: str, kinds: frozenset[str] = frozenset(),
) -> Asked:
    """The earlier cuts with their item tables, and what users were asked at them; many for what learns, a few for the rest.

    `kinds`: of item tables that others will read, too: they are built once.
    """
    setting, cls = setting_at(lake, config), model_class(name)
    kinds |= kinds_of(setting, [name])
    state = State(attempt.night.as_of_us, attempt.max_batch)
    horizon_us, lead_us = micros_of(config.fit.horizon), attempt.night.serve_at_us - attempt.night.as_of_us
    wanted = config.fit.max_train_nights if cls.trains else config.fit.nights
    cuts_us = [attempt.night.as_of_us - n * horizon_us for n in range(1, wanted + 1)]
    begins_us = derived.read(SEQUENCES).agg(F.min(F.unix_micros("first_ts"))).first()[0] or 0
    cuts_us = [c for c in cuts_us if c >= begins_us + horizon_us] or cuts_us[:1]
    if cls.trains:
        cuts_us = enough_cuts(derived.read(SEQUENCES), cuts_us, horizon_us, config.log.events.gains, config.fit, setting.repeats)
    outs = {from_micros(c): item_tables.folder(lake.root, from_micros(c), state) for c in cuts_us}
    tables = item_tables.run_many(lake, config, outs, kinds, derived, state)
    cuts = [Cut(t.path, c, c + lead_us, horizon_us) for t, c in zip(tables, cuts_us, strict=True)]
    exams = exams_to_fit(
        derived.read(SEQUENCES), cuts, config.log.events.gains, config.fit, repeats=setting.repeats, trains=cls.trains,
        max_users=config.fit.most_users(len(cuts), cls.trains, cls.light))
    return Asked(setting, [c.tables for c in cuts], exams)


def _saved(lake: Lake, config: Config, attempt: nights.Attempt, name: str, fitted: Fit) -> Trained:
    """The folder of a fitted model, and its row."""
    body = json.dumps([name, fitted.params, attempt.night.as_of_us, attempt.max_batch, config.hash], sort_keys=True)
    version = f"{name}-{attempt.night.as_of:%Y%m%dT%H%M}-{_short_hash(body)}"
    path = _folder(lake, "_models") / version
    make(name, fitted.params, fitted.weights).save(path)
    row = {
        "model_version": version, "name": name, "recipe": recipe_of(name, config), "trained_through_us": attempt.night.as_of_us,
        "params": json.dumps(fitted.params),
        "metrics": json.dumps(fitted.metrics), "data_versions": json.dumps({"max_batch": attempt.max_batch}),
        "code_version": code_version(), "config_hash": config.hash, "content_hash": folder_hash(path), "path": f"_models/{version}",
        "status": "candidate", "created_at_us": nights.now_us(),
    }
    return Trained(row, path, is_new=True)


def at_hand(lake: Lake, row: dict[str, Any]) -> Trained:
    """A model that lies under the lake's root, by its row."""
    return Trained(row, _folder(lake, "_models") / row["model_version"], is_new=False)


def fault_of(lake: Lake, row: dict[str, Any]) -> str:
    """Why this version of the code cannot make lists with the model; '' where it can."""
    try:
        load_model(at_hand(lake, row).path)
    except ModelError as e:
        return str(e)
    return ""


def _folder(lake: Lake, part: str) -> Path:
    if "://" in lake.root:
        raise TableError(f"{lake.root} is a URL and {part} holds files of the driver: use a folder that driver and executors see")
    return Path(lake.root) / part


def attempt_at(config: Config, as_of: datetime, max_batch: int) -> nights.Attempt:
    """What stands for a night where a cut is named instead of one."""
    night = Night(as_of.date(), as_of, as_of + config.clock.lead)
    return nights.Attempt(night, config.lists.name, 0, max_batch, 0, config.hash, code_version())


def micros_of(duration: timedelta) -> int:
    """Microseconds of a timedelta."""
    return (duration.days * 86_400 + duration.seconds) * 1_000_000 + duration.microseconds


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = parser(__doc__, as_of=True).parse_args(argv)

    def body() -> None:
        config, steps = load(args.config), Steps()
        record = RunRecord("train", args.root, config)
        with lease(args.root):
            lake = Lake(start("recs train", config.spark), args.root)
            newest = nights.newest_batch(lake) if args.max_batch is None else args.max_batch
            attempt = attempt_at(config, args.as_of, newest)
            derived = derive.bring(lake, config, args.as_of, newest, steps)
            with steps("train") as counts:
                trained = fit_all(lake, config, derived, attempt)
                counts.update(models=len(trained))
        for t in trained:
            print(json.dumps({"job": "train", "model_version": t.version, "status": t.row["status"], **json.loads(t.row["metrics"])}))
        record.step("train", steps.seconds["train"], models=len(trained))
        record.write()

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
