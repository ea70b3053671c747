"""Fit the configured models on earlier nights and make one of them champion.

reads   sequences, item_hours, item_vocabulary, items (as of each earlier cut; nothing at or after the night's own cut)
writes  root/_models/<model_version>, models (one row per model)

    recs train --root warehouse --as-of 2024-03-31T00:00:00Z
    spark-submit jobs/train.py --config my.yaml --root /data/recs --as-of 2024-03-31T00:00:00Z

The cuts are `fit.nights` horizons before the night: what a user met in [cut, cut + horizon) is what the lists of that cut are
held against.  The item tables of each cut are built from what was known then.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any

from recs.clock import Night, from_micros
from recs.config import Config
from recs.etl.news import State
from recs.jobs import derive, item_tables
from recs.jobs._cli import RunRecord, code_version, load, parser, run_job
from recs.judge import replay
from recs.local_frame import local_frame
from recs.models import load as load_model
from recs.models import make, model_class
from recs.models.fitting import Fit
from recs.report.progress import Steps
from recs.schemas import ITEM_VOCABULARY, MODELS, SEQUENCES
from recs.serve import nights
from recs.serve.artifacts import folder_hash
from recs.serve.rules import Rules
from recs.session import start
from recs.tables import Lake, TableError, lease


@dataclass(frozen=True)
class Trained:
    """A row of `models`, instants as microseconds (`trained_through_us`), with its folder at hand."""

    row: dict[str, Any]
    path: Path
    is_new: bool

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


def champion(lake: Lake, config: Config, derived: derive.Derived, attempt: nights.Attempt, anew: bool = False) -> Trained:
    """The model that makes this attempt's lists.

    The one in the attempt's tuple where it has been chosen; else the newest of the configured champion's name that knows nothing
    after the cut and is not older than `fit.every`; else it is fitted now, with all other models.
    """
    rows, as_of_us = _rows(lake), attempt.night.as_of_us
    if attempt.model_version:
        known = [r for r in rows if r["model_version"] == attempt.model_version]
        if not known:
            raise TableError(f"{lake.path(MODELS)} has no model {attempt.model_version}, which {attempt.name} was made with; use --refresh")
        return _trained(lake, known[0])
    oldest_us = as_of_us - micros_of(config.fit.every)
    fresh = [
        r for r in rows
        if r["name"] == config.champion and r["config_hash"] == config.hash and oldest_us < r["trained_through_us"] <= as_of_us
    ]
    if fresh and not anew:
        return _trained(lake, max(fresh, key=lambda r: (r["trained_through_us"], r["model_version"])))
    return next(t for t in fit_all(lake, config, derived, attempt) if t.row["name"] == config.champion)


def fit_all(lake: Lake, config: Config, derived: derive.Derived, attempt: nights.Attempt) -> list[Trained]:
    """Fit every configured model on the nights before the attempt's; one row each in `models`, written together."""
    cuts, exams, rules = *_exams(lake, config, derived, attempt), Rules.of(config.lists.rules, config.log.events.event_types)
    setting = _setting(lake, config)
    trained = []
    for name in config.models:
        fitted = replay.fit(name, exams, [c.tables for c in cuts], setting, rules, config.fit.k)
        trained.append(_saved(lake, config, attempt, name, fitted))
    old = [r for r in _rows(lake) if r["status"] == "champion"]
    _write(lake, [r | {"status": "retired"} for r in old] + [t.row for t in trained])
    return trained


def _setting(lake: Lake, config: Config):
    return replay.setting_of(config, lake.read(ITEM_VOCABULARY).count())


def _exams(lake: Lake, config: Config, derived: derive.Derived, attempt: nights.Attempt):
    """The earlier cuts with their item tables, and what users were asked at them."""
    setting = _setting(lake, config)
    classes = [model_class(name) for name in config.models]
    kinds = reduce(frozenset.union, (cls.needs(p) for cls in classes for p in cls.grid(setting)), frozenset())
    state = State(attempt.night.as_of_us, attempt.max_batch)
    horizon_us = micros_of(config.fit.horizon)
    cuts = []
    for n in range(config.fit.nights, 0, -1):
        cut_us = attempt.night.as_of_us - n * horizon_us
        tables = item_tables.run(lake.spark, lake, config, from_micros(cut_us), kinds, derived=derived, state=state)
        lead_us = attempt.night.serve_at_us - attempt.night.as_of_us
        cuts.append(replay.Cut(tables.path, cut_us, cut_us + lead_us, horizon_us))
    targets = [t.code for t in config.log.events.event_types.values() if t.target]
    exams = replay.exams_at_cuts(derived.read(SEQUENCES), cuts, targets)
    return cuts, replay.exams_sampled(exams, len(cuts), config.fit.max_users)


def _saved(lake: Lake, config: Config, attempt: nights.Attempt, name: str, fitted: Fit) -> Trained:
    """The folder of a fitted model, and its row."""
    body = json.dumps([name, fitted.params, attempt.night.as_of_us, attempt.max_batch, config.hash], sort_keys=True)
    version = f"{name}-{attempt.night.as_of:%Y%m%dT%H%M}-{_short_hash(body)}"
    path = _folder(lake) / version
    make(name, fitted.params).save(path)
    row = {
        "model_version": version, "name": name, "trained_through_us": attempt.night.as_of_us, "params": json.dumps(fitted.params),
        "metrics": json.dumps(fitted.metrics), "data_versions": json.dumps({"max_batch": attempt.max_batch}),
        "code_version": code_version(), "config_hash": config.hash, "content_hash": folder_hash(path), "path": f"_models/{version}",
        "status": "champion" if name == config.champion else "candidate", "created_at_us": nights.now_us(),
    }
    return Trained(row, path, is_new=True)


def _trained(lake: Lake, row: dict[str, Any]) -> Trained:
    return Trained(row, _folder(lake) / row["model_version"], is_new=False)


def _folder(lake: Lake) -> Path:
    if "://" in lake.root:
        raise TableError(f"{lake.root} is a URL and models are files of the driver: use a folder that driver and executors see")
    return Path(lake.root) / "_models"


def _rows(lake: Lake) -> list[dict[str, Any]]:
    """The rows of `models`, instants as microseconds."""
    from pyspark.sql import functions as F

    instants = [F.unix_micros(c).alias(f"{c}_us") for c in _INSTANTS]
    return [r.asDict() for r in lake.read(MODELS).select(*_PLAIN, *instants).collect()]


def _write(lake: Lake, rows: list[dict[str, Any]]) -> None:
    from pyspark.sql import functions as F

    ddl = ", ".join([f"{c} string" for c in _PLAIN] + [f"{c}_us bigint" for c in _INSTANTS])
    names = [*_PLAIN, *(f"{c}_us" for c in _INSTANTS)]
    newest = {r["model_version"]: r for r in rows}.values()     # a model fitted again from the same data has the same version
    frame = local_frame(lake.spark, [tuple(r[n] for n in names) for r in newest], ddl)
    lake.merge(frame.select(*_PLAIN, *(F.timestamp_micros(f"{c}_us").alias(c) for c in _INSTANTS)), MODELS, {"stage": "train"})


_INSTANTS = ("trained_through", "created_at")
_PLAIN = tuple(c for c in MODELS.column_names if c not in _INSTANTS)


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
            night = Night(args.as_of.date(), args.as_of, args.as_of + config.clock.lead)
            attempt = nights.Attempt(night, config.lists.name, 0, newest, 0, config.hash, code_version())
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
