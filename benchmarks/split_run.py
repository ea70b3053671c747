"""One model on one split: item tables, fit, lists; with the product's own functions.

    nightly     item tables of many earlier cuts and of every night, all in the same jobs; fitted on what followed the earlier cuts
                before the first night, and again when `fit.every` has passed; lists of every night from that night's tables
    others      item tables of the fit events; fitted on earlier windows of the same protocol; one list per request
    refreshed   (gts_last) item tables as they would be built again and again: each request reads the latest before it, made from events
                that may be looked at and lie before its cut; fitted on earlier targets in the same way
"""
from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from split_folder import LATER_US, SplitError, SplitFolder, before_targets, quantile_us, targets_of, utc, whole_hours

from recs.clock import HOUR, from_micros, micros
from recs.config import Config
from recs.etl.item_hours import item_hours
from recs.etl.item_tables import Sources, build_at_cuts
from recs.etl.sequences import SequenceRule, sequences
from recs.evidence.histories import SEQUENCE_COLUMNS
from recs.judge import replay
from recs.judge.exams import NO_CUT, Cut, enough_cuts, exams_sampled, exams_to_fit, one_target
from recs.models import Setting, grid_of, make, model_class
from recs.models.fitting import Fit, with_fixed
from recs.serve.rules import Rules
from recs.serve.score import recommend

if TYPE_CHECKING:
    from pyspark.sql import Column

    from recs.etl.text_vectors import Texts

log = logging.getLogger("run_split")

TABLES_SHARE = 0.35     # of the time left, for the item tables of earlier cuts
FIRST_CUTS = 4          # built to see what a cut costs
WINDOWS = 8             # earlier windows of a protocol with one target per user, each a quarter of its length before the one after it
TARGETS = 2             # per user and window: the last, and another


@dataclass
class Stopwatch:
    """The budget in seconds, from now on."""

    budget_s: float

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        return self.budget_s - self.spent_s

    def at(self, share: float) -> float:
        """The reading of time.monotonic() at which this share of the budget is spent."""
        return self.began + share * self.budget_s


@dataclass
class Run:
    """One model on one split."""

    split: SplitFolder
    name: str
    config: Config
    fixed: dict[str, Any]
    k: int
    refit: bool
    work: Path
    watch: Stopwatch
    cut_s: float = 0.0      # seconds that the item tables of a cut, the longest fit, the lists of a night took
    fit_s: float = 0.0
    list_s: float = 0.0
    refreshed: bool = False
    also: frozenset[str] = frozenset()      # kinds of item tables that other models of the work folder read
    built: dict[int, Path] = field(default_factory=dict)    # cut -> item tables

    @cached_property
    def _own(self) -> Path:
        """Where its model and lists lie: other runs may share the work folder at the same time."""
        return Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.work))

    @cached_property
    def setting(self) -> Setting:
        """What the log allows a model; the size of its catalogue is that of the fit events."""
        setting = replay.setting_of(self.config, self.split.fit_events.select("item_index").distinct().count())
        return replace(setting, serves_us=self._serves_us)

    @property
    def _serves_us(self) -> int | None:
        """From a fit's cut to that of the last night before the next fit, at the nights of this split."""
        if not self.split.nightly:
            return None
        fitted, oldest = self.split.cuts_us[0], 0
        for cut in self.split.cuts_us:
            if self.refit and self.config.fit.is_due(fitted, cut):
                fitted = cut
            oldest = max(oldest, cut - fitted)
        return oldest

    @cached_property
    def grid(self) -> list[dict[str, Any]]:
        return with_fixed(grid_of(self.name, self.setting), self.fixed)

    @property
    def _is_fitted(self) -> bool:
        """Is there anything to choose or to train?"""
        return len(self.grid) > 1 or model_class(self.name).trains

    @property
    def kinds(self) -> frozenset[str]:
        return kinds_of(self.name, self.grid)

    @property
    def rules(self) -> Rules:
        return Rules.of(self.config.lists.rules, self.config.log.events.event_types)

    def lists(self) -> list[Path]:
        """Lists of every night, a folder of Parquet each."""
        if self.refreshed and self.split.protocol != "gts_last":
            raise SplitError(f"{self.split.path}: --refreshed is for gts_last, this is {self.split.protocol}")
        return self._nightly() if self.split.nightly else self._by_request()

    # ---- nightly -----------------------------------------------------------------------------------------------------------

    def _nightly(self) -> list[Path]:
        nights, cuts_us = self.split.nights, self.split.cuts_us
        fitted_us, fitted, out = None, None, []
        for place, night in enumerate(nights):
            cut_us = cuts_us[place]
            if fitted is None or (self._may_fit_again(place) and self.config.fit.is_due(fitted_us, cut_us)):
                fitted, fitted_us = self._fitted_before(cut_us, fitted), cut_us
            tables = self._tables([cut_us if self.refit else cuts_us[0]], kinds_of(self.name, [fitted.params]))[0]
            out.append(self._listed(fitted, tables, self._before(cut_us), night))
        return out

    @cached_property
    def _history(self) -> DataFrame:
        """All events before the last night: every earlier night's history is a beginning of it."""
        last = self.split.history(self.split.nights[-1]).persist()
        known = last.agg(*(F.sum((F.unix_micros("ts") < cut).cast("long")) for cut in self.split.cuts_us)).first()
        for night, n in zip(self.split.nights, known, strict=True):
            have = pq.read_metadata(self.split.path / f"history_events/night={night:02d}.parquet").num_rows
            if have != (n or 0):
                log.warning("night %d: its history has %d rows, the last night knows %d from before its cut", night, have, n)
        return last

    @cached_property
    def _sequences(self) -> DataFrame:
        return self.sequences(self._history, self.split.cuts_us[-1]).persist()

    @cached_property
    def _hours(self) -> DataFrame:
        gap, types = self.config.sessions.gap, list(self.split.event_types)
        return item_hours(self._history, self.split.users, utc(whole_hours(self.split.cuts_us[-1])), gap, types).persist()

    def _tables(self, cuts_us: list[int], kinds: frozenset[str]) -> list[Path]:
        """Item tables of these cuts; those that are there already, also from an earlier run in the work folder, are used again."""
        along = [c for c in self.split.cuts_us if c not in self.built and c not in cuts_us] if self.refit else []    # the nights to come
        sources = self._sources(self._hours, self._sequences)
        outs = {from_micros(c): self.work / f"cut-{c}" for c in [*cuts_us, *along]}
        found = build_at_cuts(sources, outs, kinds | self.also, self.config.item_tables, **self._facts, protocol=self.split.protocol)
        self.built |= {t.cut_us: t.path for t in found}
        return [self.built[c] for c in cuts_us]

    def _before(self, cut_us: int) -> DataFrame:
        """Histories before the cut."""
        n = F.size(F.filter("ts", lambda t: t < cut_us))
        arrays = [F.slice(c, F.lit(1), F.col("_n")).alias(c) for c in SEQUENCE_COLUMNS if c != "user_id"]
        return self._sequences.withColumn("_n", n).where("_n > 0").select("user_id", *arrays)

    def _earlier_cuts(self, before_us: int) -> list[int]:
        """Earlier cuts, the latest first, each with a whole horizon before `before_us` and something before it."""
        begins_us = micros(self._history.agg(F.min("ts")).first()[0])
        fit, trains = self.config.fit, model_class(self.name).trains
        last = before_us - self.split.horizon_us
        cuts = [last - back * self.split.step_us for back in range(fit.max_train_nights if trains else fit.nights)]
        cuts = [c for c in cuts if c >= begins_us + self.split.horizon_us] or [last]
        if not trains:
            return cuts
        return enough_cuts(
            self._sequences, cuts, self.split.horizon_us, self.config.log.events.gains, fit, self.setting.repeats)

    def _fitted_before(self, cut_us: int, fitted: Fit | None) -> Fit:
        """The model fitted on what followed the cuts before `cut_us`; `fitted`: the last time, whose choices are kept."""
        before = time.monotonic()
        if not self._is_fitted:
            return Fit(self.grid[0], [])
        cuts_us = self._affordable(self._earlier_cuts(cut_us))
        found = self._fit(*self.asked_at(cuts_us, len(cuts_us)), fitted, self._before(cut_us))
        self.fit_s = max(self.fit_s, time.monotonic() - before)
        return found

    def asked_at(self, cuts_us: list[int], trained_on: int) -> tuple[DataFrame, list[Path]]:
        """Exams of these cuts, so many of which are trained on at a time, and their item tables."""
        tables = self._tables(cuts_us, self.kinds)
        cuts = [Cut(path, c, c, self.split.horizon_us) for c, path in zip(cuts_us, tables, strict=True)]
        return exams_to_fit(
            self._sequences, cuts, self.config.log.events.gains, self.config.fit, repeats=self.setting.repeats,
            trains=model_class(self.name).trains, max_users=self._most_users(trained_on)), tables

    def _most_users(self, n_cuts: int) -> int:
        fit, cls = self.config.fit, model_class(self.name)
        return fit.most_users(n_cuts, cls.trains, cls.light)

    def _affordable(self, cuts_us: list[int]) -> list[int]:
        """As many of the cuts, the latest first, as a share of the time left bears; the first few show what one costs."""
        todo = [c for c in cuts_us if c not in self.built]
        if not self.cut_s and len(todo) > FIRST_CUTS:
            before, had = time.monotonic(), len(self.built)
            self._tables(todo[:FIRST_CUTS], self.kinds)
            self.cut_s = (time.monotonic() - before) / (len(self.built) - had)
            todo = todo[FIRST_CUTS:]
        bears = int(TABLES_SHARE * self.watch.left_s / max(self.cut_s, 1e-3))
        if bears < len(todo):
            log.warning("fitting on %d earlier nights instead of %d: the budget is short", len(cuts_us) - len(todo) + bears, len(cuts_us))
        return [c for c in cuts_us if c in self.built or c in todo[:bears]]

    def _may_fit_again(self, place: int) -> bool:
        """Is there time to fit again and still answer the nights left?"""
        return self.refit and self.watch.left_s > self.fit_s + (len(self.split.nights) - place) * self.list_s

    # ---- one list per request ----------------------------------------------------------------------------------------------

    def _by_request(self) -> list[Path]:
        events = self.split.fit_events.persist()
        histories = self.sequences(events, LATER_US)
        fitted = self._fit(*self._earlier_targets(), None, histories) if self._is_fitted else Fit(self.grid[0], [])
        kinds = kinds_of(self.name, [fitted.params])
        cut_us = whole_hours(micros(events.agg(F.max("ts")).first()[0]) + 1)
        if self.refreshed:
            return self._at_refreshes(fitted, kinds, cut_us)
        tables = self._tables_of(events, cut_us, kinds)
        return [self._listed(fitted, tables, self.sequences(self.split.history(n), LATER_US), n) for n in self.split.nights]

    def _at_refreshes(self, fitted: Fit, kinds: frozenset[str], first_us: int) -> list[Path]:
        """Lists of the one night, a folder for the requests between two refreshes of the item tables."""
        (night,) = self.split.nights
        history = self.split.history(night).persist()
        later = history.where(F.unix_micros("ts") > self._fit_range_us[1])
        known, asked = self.split.fit_events.unionByName(later).persist(), self.sequences(history, LATER_US).persist()
        cuts, out = list(range(first_us, self.split.last_request_us() + 1, self._refresh_us)), []
        for cut_us, next_us in zip(cuts, [*cuts[1:], LATER_US], strict=True):
            tables = self._tables_of(known.where(F.unix_micros("ts") < cut_us), cut_us, kinds)
            between = F.col("request_us").between(0 if cut_us == first_us else cut_us, next_us - 1)
            out.append(self._listed(fitted, tables, asked, night, between, f"-{cut_us}"))
        return out

    def _tables_of(self, events: DataFrame, cut_us: int, kinds: frozenset[str]) -> Path:
        """Item tables of events that all lie before the cut."""
        types = self.split.event_types
        hours = item_hours(events, self.split.users, utc(cut_us), self.config.sessions.gap, list(types))
        sources, n = self._sources(hours, self.sequences(events, cut_us)), events.count()
        out = {utc(cut_us): self.work / f"cut-{cut_us}-{n}"}
        return build_at_cuts(sources, out, kinds | self.also, self.config.item_tables, **self._facts, events=n)[0].path

    def _earlier_targets(self) -> tuple[DataFrame, list[Path]]:
        """Exams of the protocol's own rule, inside the fit events: earlier windows, or the last event of each user."""
        events = self.split.fit_events.persist()
        if self.split.protocol == "loo":
            targets = targets_of(events, None, self.split.filter_seen).persist()
            # users without a target are known whole
            whole = events.join(targets, "user_id", "left_anti").select(*events.columns)
            known = before_targets(events, targets).unionByName(whole).persist()
            cut_us = whole_hours(micros(known.agg(F.max("ts")).first()[0]) + 1)
            exams = self._exams(events, targets, 0)
            most = max(self.config.fit.max_users, self._most_users(1))
            return exams_sampled(exams, 1, most), [self._tables_of(known, cut_us, self.kinds)]
        if self.refreshed:
            return self._refreshed_targets(events)
        trains, starts = model_class(self.name).trains, self._window_starts(events)
        exams, tables = [], []
        for number, (start_us, end_us) in enumerate(starts):
            inside = events.where(F.col("ts") <= F.timestamp_micros(F.lit(end_us)))
            targets = targets_of(inside, start_us, self.split.filter_seen, per_user=TARGETS if trains else 1).persist()
            exams.append(self._exams(inside, targets, number))
            known = events.where(F.col("ts") <= F.timestamp_micros(F.lit(start_us))).persist()
            tables.append(self._tables_of(known, whole_hours(micros(known.agg(F.max("ts")).first()[0]) + 1), self.kinds))
            self._say("window", start=str(utc(start_us)), end=str(utc(end_us)))
            if trains and time.monotonic() > self.watch.at(TABLES_SHARE):
                break
        every = exams[0]
        for more in exams[1:]:
            every = every.unionByName(more)
        return exams_sampled(every, len(tables), self._most_users(len(tables))), tables

    def _refreshed_targets(self, events: DataFrame) -> tuple[DataFrame, list[Path]]:
        """The targets of the same windows, each with the item tables of the latest refresh before it."""
        last_us, step_us, tables, found = self._fit_range_us[1], self._refresh_us, [], []
        starts = self._window_starts(events)
        for back in range(1, round((last_us - min(start for start, _ in starts)) / step_us) + 1):
            known = events.where(F.unix_micros("ts") < last_us - back * step_us).persist()
            tables.append(self._tables_of(known, whole_hours(last_us - back * step_us), self.kinds))
            if time.monotonic() > self.watch.at(TABLES_SHARE):
                break
        for start_us, end_us in starts:
            inside = events.where(F.col("ts") <= F.timestamp_micros(F.lit(end_us)))
            found.append(targets_of(inside, start_us, self.split.filter_seen, per_user=TARGETS))
        every = reduce(DataFrame.unionByName, found).drop("target").distinct()
        number = F.greatest(F.ceil((last_us - F.unix_micros("ts")) / step_us) - 1, F.lit(0)).cast("int")
        order = Window.partitionBy("user_id").orderBy("place")
        every = every.withColumns({"night": number, "target": F.row_number().over(order)}).where(F.col("night") < len(tables)).persist()
        exams = self._exams(events, every, F.col("night"))
        return exams_sampled(exams, len(tables), self._most_users(len(tables))), tables

    @property
    def _refresh_us(self) -> int:
        """Between two refreshes of the item tables: a quarter of a window, in whole hours."""
        return max(self._window_us // 4 // HOUR * HOUR, HOUR)

    def _window_starts(self, events: DataFrame) -> list[tuple[int, int]]:
        """Start and end of the windows, the latest first: as long as the requests' own, each a quarter of that before the last."""
        if not model_class(self.name).trains:
            return [(quantile_us(events, self.split.meta.get("q", 0.9)), LATER_US)]
        (first_us, last_us), length = self._fit_range_us, self._window_us
        ends = [last_us - back * length // 4 for back in range(WINDOWS)]
        return [(end - length, end) for end in ends if end - length > first_us + length]

    @cached_property
    def _fit_range_us(self) -> tuple[int, int]:
        """First and last event that a model may be fitted on."""
        first, last = self.split.fit_events.agg(F.min("ts"), F.max("ts")).first()
        return micros(first), micros(last)

    @cached_property
    def _window_us(self) -> int:
        """From the fit events' end to the last request, or a quarter of what came before where that is shorter."""
        first_us, last_us = self._fit_range_us
        return max(min(self.split.last_request_us() - last_us, (last_us - first_us) // 4), HOUR)

    def _exams(self, events: DataFrame, targets: DataFrame, number: int | Column) -> DataFrame:
        """A row per target: the history before it, and what it was; `number` of its item tables."""
        asked = targets.select(
            "user_id", "target", F.unix_micros("ts").alias("request_us"), *one_target("item_index"),
            F.lit(number).alias("night"), F.lit(NO_CUT).alias("cut_us"),
        )
        # a history per target: targets of one user are told apart by their place
        named = before_targets(events, targets, each=True)
        histories = self.sequences(named, LATER_US).select(*SEQUENCE_COLUMNS).withColumnRenamed("user_id", "_who")
        joined = histories.join(asked.withColumn("_who", F.concat_ws("\x1f", "user_id", "target")), "_who")
        return joined.drop("_who", "target")

    # ---- shared ------------------------------------------------------------------------------------------------------------

    @cached_property
    def _texts(self) -> Texts | None:
        return self.split.texts(self.config)

    def _sources(self, hours: DataFrame, sequences: DataFrame) -> Sources:
        """Whatever item tables are made from, with what is known of the items themselves."""
        return Sources(hours, sequences, self.split.vocabulary, self.split.items, self.split.event_types, self._texts)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What stands in the manifests of item tables beside the cut."""
        facts: dict[str, Any] = {"split": self.split.path.name}
        if self.split.items_path is not None:
            facts["items"] = hashlib.sha256(self.split.items_path.read_bytes()).hexdigest()
        if self._texts is not None:
            facts["text"] = self._texts.config.model_dump(mode="json")
        return facts

    def sequences(self, events: DataFrame, as_of_us: int) -> DataFrame:
        """Histories of all users before an instant."""
        gap_us = self.config.sessions.gap // timedelta(microseconds=1)
        rule = SequenceRule(self.config.sequences.max_events, gap_us, "UTC", self.config.log.events.has_clock)
        return sequences(events, self.split.users, utc(as_of_us), rule)

    @property
    def _horizon_us(self) -> int:
        """How long what followed a cut was looked for."""
        return self.split.horizon_us if self.split.nightly else self._refresh_us if self.refreshed else self._window_us

    def _fit(self, exams: DataFrame, tables: list[Path], fitted: Fit | None, histories: DataFrame) -> Fit:
        held = self.fixed | model_class(self.name).kept(fitted.params) if fitted else self.fixed
        # fitted again, a model may take as long as the first time: that is what was asked before (`_may_fit_again`)
        until = time.monotonic() + self.fit_s if fitted else self.watch.at(0.6)
        found = replay.fit(
            self.name, exams, tables, self.setting, self.rules, k=self.config.fit.k, until=until, fixed=held,
            scratch=self.work / "examples", horizon_us=self._horizon_us, histories=histories,
        )
        self._say("fitted", tried=len(found.tried), nights=len(tables), **found.metrics, params=found.params)
        return found

    def _listed(
        self, fitted: Fit, tables: Path, histories: DataFrame, night: int, asked: Column | None = None, part: str = "",
    ) -> Path:
        """The night's lists as a folder of Parquet; `asked`: of these requests."""
        before = time.monotonic()
        model = self._own / "model"
        make(self.name, fitted.params, fitted.weights).save(model)
        requests = self.split.requests(night).where(F.lit(True) if asked is None else asked)
        wanted = histories.select(*SEQUENCE_COLUMNS).join(requests, "user_id").repartition(8, "user_id")
        found = recommend(wanted, model, tables, self.k, self.rules).withColumn("night", F.lit(night))
        out = self._own / f"lists-{night:02d}{part}"
        found.select("user_id", "night", "item_id", "rank", "score").write.mode("overwrite").parquet(str(out))
        self.list_s = time.monotonic() - before
        self._say("night", night=night, seconds=round(self.list_s, 1))
        return out

    def _say(self, what: str, **facts: Any) -> None:
        log.info("%5.0f s  %s %s", self.watch.spent_s, what, json.dumps(facts))


def kinds_of(name: str, grid: list[dict[str, Any]]) -> frozenset[str]:
    """Item tables that the model reads with any of these parameters."""
    return frozenset(kind for params in grid for kind in model_class(name).needs(params))
