"""How a sequence model is fitted on earlier nights.

    examples        of every night, written once as staged Parquet by the executors (recs/models/sequence_examples.py), and of what is
                    known: all users' histories up to the present
    held out        several nights: the latest of them, no more days than a fit serves: on news a network of two days ago has a third of
                    a fresh one's NDCG, and learns best in another way; the network is trained on the earlier ones and on what was
                    known at the first of the latest, and the number of epochs around which it is best is kept; in several ways: from
                    histories alone, which is better where items live for days and most questions are about items that are gone;
                    again with half of what lies some days back, for several numbers of days; by lift, which leaves what is popular at
                    the time to what joins the scores; and with the earlier nights' questions.  What joins is chosen for each way
                    (recs/models/sequence_joined.py), and then the way whose lists are best
                    one night (a target per user): the targets of a tenth of the users; their histories are trained
    training        several nights: again on all, for so many epochs; one night: the weights with the best held-out lists

tuning          where a language model is tuned, both runs have a second stage (recs/models/sequence_tuning.py)

Time is kept to: a few steps are measured, and the epochs are as many as fit (at most `epochs`), so that the learning rate comes down in
time.  With too few lists to learn from the model stays without weights and lists what is popular.
"""
from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recs.evidence.item_kinds import TEXT
from recs.evidence.item_tables import ItemTables
from recs.nn.graded import errors_of
from recs.nn.hardware import finish, pick_device
from recs.nn.next_item import NextItem
from recs.nn.reader import Reader
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, read_columns
from recs.nn.thresholds import Threshold
from recs.nn.thresholds import fitted as best_threshold
from recs.nn.train import Trained, train
from recs.nn.tuning import TuningConfig
from recs.nn.zoo import network_class

from .examples import also_read
from .fitting import Fit, Replay, seconds_left
from .network_arrays import arrays_of
from .sequence_examples import Numbers, Shape, examples, known_examples, meetings, training, validation
from .sequence_graded import graded_examples, graded_training, graded_validation
from .sequence_joined import POPULAR
from .sequence_joined import asked as joining
from .sequence_joined import chosen as chosen_joined
from .sequence_network import make_network
from .sequence_side import Side, put
from .sequence_threshold import threshold
from .sequence_tuning import PATIENCE, texts_of, tune, tuning_of

log = logging.getLogger(__name__)

LEAST_EXAMPLES = 100        # to train on
VALIDATION_SHARE = 0.2      # of several nights, the latest, at most
LEAST_HELD = 100            # lists of held out nights, also where a fit does not serve that many nights
ENOUGH_HELD = 1_000         # further ones would only leave the training further behind
FIRST_RUN = 0.45            # of the time left, with questions: the network is trained again on all nights
ALONE_SHARE = 0.18          # of the time left before that, from histories alone, and again by lift
RECENT_SHARE = 0.1          # of the time left before that, with each half-life
HALF_LIVES = 14.0, 3.0, 0.75        # days, of what a network learns from histories
LIFT_EPOCHS = 8             # at most: what such a network alone is worth on held-out lists says nothing of when to stop
BETTER = "ndcg@10"          # of several ways to learn the one with more of it …
STEADY = "steady_ndcg@10"   # … around the best epoch, for a single evaluation may be luck: on news one article is in every fourth list
FROZEN_FIRST = 0.4          # of the time, where the language model is tuned afterwards
SEEN_BEFORE = 4_096         # examples that scalers are fitted on
BATCH, STEPS = (32, 256), 100       # examples of a step: a small log has a hundred steps an epoch, too
STEPS_MEASURED = 7
SPARE = 0.9                 # of the time is planned with


def fit(name: str, params: dict[str, Any], replay: Replay, serves_us: int | None = None) -> Fit:
    """Parameters, weights and metrics of a fit that makes lists up to `serves_us` after its cut; see the module's text."""
    shape = Shape(
        params["length"], params["windows"], params["targets"], also_read(params), params.get("written"), params.get("graded", 0))
    newest_first = sorted(replay.nights, key=lambda n: -replay.cuts_us[n])
    with tempfile.TemporaryDirectory(prefix="recs-examples-") as folder:
        shared = replay.scratch or Path(folder) / "examples"
        by_night = replay.write(partial(graded_examples if shape.graded else examples, shape), shared / shape.key)
        nights = [n for n in newest_first if n in by_night]
        rows = sum(by_night[n].rows for n in nights)
        log.info("%s: %d examples of %d nights", name, rows, len(nights))
        if rows < LEAST_EXAMPLES:
            return Fit(params, [], {"training_lists": float(rows)})
        bench = _Bench(name, params, replay.until, Path(folder), Catalogue.of(params, replay.tables(newest_first[0])))
        every = [by_night[n] for n in nights]
        if params["chosen"]:
            with known(replay, shape, None, shared, newest_first[0]) as present:
                return bench.trained("every", present, every, params["chosen"], {})
        latest = _latest(nights, by_night, replay.cuts_us, serves_us)
        # what followed a night that is held out must not be what followed a night that is trained on
        first_held_us = min(replay.cuts_us[n] for n in latest)
        before = [n for n in nights if replay.cuts_us[n] + replay.horizon_us <= first_held_us]
        early = [by_night[n] for n in before]
        if sum(night.rows for night in early) < LEAST_EXAMPLES:
            with known(replay, shape, None, shared, nights[0]) if shape.written else nullcontext([]) as present:
                return bench.by_users(present, every)
        since_us = replay.cuts_us[before[0]]
        with known(replay, shape, first_held_us, shared, before[0]) as then, known(replay, shape, None, shared, nights[0]) as present:
            return bench.by_nights(then, early, [by_night[n] for n in latest], present, every, since_us, replay.only(latest))


def _latest(newest_first: Sequence[int], by_night: Mapping[int, Staged], cuts_us: Sequence[int], serves_us: int | None) -> list[int]:
    """The nights held out: the latest, as many as one fit serves, until there are enough lists, at most a share of all."""
    held, lists = [], 0
    for night in newest_first[: max(1, round(len(newest_first) * VALIDATION_SHARE))]:
        if serves_us is not None and cuts_us[newest_first[0]] - cuts_us[night] > serves_us and lists >= LEAST_HELD:
            break
        held.append(night)
        lists += int((read_columns(by_night[night], ["window"])["window"] == 0).sum())
        if lists >= ENOUGH_HELD:
            break
    return held


@contextmanager
def known(replay: Replay, shape: Shape, before_us: int | None, shared: Path, night: int) -> Iterator[list[Staged]]:
    """Examples of what was known before an instant (None: at present), in words of a night's catalogue, while the body runs; none where
    histories are not at hand."""
    folder = shared / f"known-{uuid.uuid4().hex}"
    if shape.graded or (shape.written and not shape.written["asked"]):     # ratings were asked of the histories before them already
        yield []
        return
    try:
        found = replay.write_histories(partial(known_examples, shape, before_us), folder, night)
        yield [] if found is None else [found]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Catalogue:
    """What a network reads of the latest night's catalogue: vectors of texts [I, S] float16, places [I, 2]; width 0 = it reads none."""

    tables: ItemTables
    text: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, params: dict[str, Any], tables: ItemTables) -> Catalogue:
        """As the parameters ask for."""
        text = np.asarray(tables.dense(TEXT)) if params["text"] and TEXT in tables.kinds else np.empty((tables.n_items, 0), np.float16)
        place = [tables.stat(name) for name in ("lat", "lon")] if params.get("places") else []
        place = np.stack(place, axis=1) if place else np.empty((tables.n_items, 0), np.float32)
        return cls(tables, text, place)

    def of_items(self, values: np.ndarray, integers: np.ndarray, missing: float) -> np.ndarray:
        """[N, .] rows of vocabulary integers; `missing` for items without a column."""
        column = self.tables.columns(integers)
        return np.where(column[:, None] >= 0, values[np.maximum(column, 0)], values.dtype.type(missing))


class _Attempt(NamedTuple):
    """One way to learn: what its held-out lists are worth, its figures, what says how to learn so again, and its arrays."""

    worth: float
    figures: dict[str, float]
    chosen: dict[str, Any]
    weights: dict[str, np.ndarray]
    late: bool      # one epoch takes longer than there was time for


def _better(one: _Attempt | None, other: _Attempt) -> _Attempt:
    return other if one is None or other.worth > one.worth else one


@dataclass
class _Bench:
    """Where networks are trained."""

    name: str
    params: dict[str, Any]
    until: float | None
    folder: Path
    catalogue: Catalogue

    def by_users(self, present: list[Staged], nights: list[Staged]) -> Fit:
        """The weights that order best what followed for some users, whose targets are not trained."""
        some, share = present + nights, self.params["held_out"]
        numbers = Numbers.of(some, self.params["least"])
        data, asked = self._training("training", some, numbers, share), self._asked("asked", nights, numbers, None, share)
        if not asked.rows:      # so few users that the hash chose none
            return self.trained("every", present, nights, {"epochs": self.params["epochs"]}, {})
        weights, figures, chosen = self._network(data, asked, numbers, {"epochs": self.params["epochs"]}, self.until)
        return self._fit(weights, chosen, data, figures)

    def by_nights(
        self, then: list[Staged], early: list[Staged], latest: list[Staged], present: list[Staged], every: list[Staged], since_us: int,
        held_out: Replay,
    ) -> Fit:
        """Epochs, with questions or not, and what joins the scores: what orders the latest nights best; trained so long on all.

        `then`, `present`: what was known at the first of the latest, and is now; `since_us`: the newest of the early cuts; `held_out`:
        the latest nights to be asked.
        """
        alone = sum(staged.rows for staged in then) >= LEAST_EXAMPLES and not self.params.get("graded")
        histories: dict[str, Any] = {"nights": 0} if alone else {}
        fixed = self.params["network"]

        @cache      # several ways learn from the same nights
        def written(nights: int | None) -> tuple[Staged, Staged, Numbers]:
            some = then + early[:nights]
            numbers = Numbers.of(some, self.params["least"])
            return self._training(f"early-{nights}", some, numbers), self._asked(f"latest-{nights}", latest, numbers, since_us), numbers

        def attempt(way: str, share: float, **kept: Any) -> _Attempt:
            until = self._until(share)
            weights, figures, chosen = self._network(*written(kept.get("nights")), {"epochs": self.params["epochs"]} | kept, until)
            late = until is not None and time.monotonic() > until
            if joining(self.params):
                if BETTER in figures:
                    figures[f"alone_{BETTER}"] = figures[BETTER]
                joined, figures[BETTER] = chosen_joined(self.name, self.params, weights, held_out)
                chosen |= joined
            worth = figures.get(BETTER if joining(self.params) else STEADY, 0.0)
            log.info("%s: %.4f %s", self.name, worth, way)
            return _Attempt(worth, figures, kept | chosen, weights, late)

        best, recent = None, {}
        if alone:
            best = attempt("from histories alone", ALONE_SHARE, **histories)
            for half_life in () if best.late or self.tuning is not None or "half_life" in fixed else HALF_LIVES:
                way = f"from histories alone, half of what is {half_life:g} days old"
                best = _better(best, attempt(way, RECENT_SHARE, half_life=half_life, **histories))
            recent = {key: value for key, value in best.chosen.items() if key == "half_life"}
        if POPULAR in joining(self.params) and self.tuning is None and "loss" not in fixed:
            few = {"epochs": min(LIFT_EPOCHS, self.params["epochs"])}
            best = _better(best, attempt("by lift", ALONE_SHARE, loss="lift", **recent, **histories, **few))
        best = _better(best, attempt("with questions", FIRST_RUN, **recent))
        figures, chosen = best.figures, best.chosen
        if joining(self.params) and network_class(self.name).probabilities:
            at = threshold(self.name, self.params | {"chosen": chosen}, best.weights, held_out)
            figures, chosen = _with_threshold(figures, chosen, at)
        return self.trained("every", present, every, chosen, figures)

    def trained(
        self, name: str, known: list[Staged], nights: list[Staged], chosen: dict[str, Any], figures: dict[str, float],
    ) -> Fit:
        """Trained on what is known, and on the nights if they were chosen, for the epochs chosen, without asking anything."""
        some = known + nights[: chosen.get("nights") if known else None]
        numbers = Numbers.of(some, self.params["least"])
        data = self._training(name, some, numbers)
        weights, more, _ = self._network(data, None, numbers, chosen, self.until)
        return self._fit(weights, chosen, data, figures | more)

    def _until(self, share: float) -> float | None:
        """When a share of the time left is over."""
        return None if self.until is None else time.monotonic() + share * (self.until - time.monotonic())

    def _training(self, name: str, nights: Sequence[Staged], numbers: Numbers, held_out: float = 0.0) -> Staged:
        if self.params.get("graded"):
            return graded_training(self.folder / name, nights, numbers, held_out)
        return training(self.folder / name, nights, numbers, self.params["repeats"], held_out, self.params["targets"])

    def _asked(self, name: str, nights: Sequence[Staged], numbers: Numbers, since_us: int | None, held_out: float = 1.0) -> Staged:
        if self.params.get("graded"):
            return graded_validation(self.folder / name, nights, numbers, since_us, held_out)
        return validation(self.folder / name, nights, numbers, held_out)

    def _fit(self, weights: dict[str, np.ndarray], chosen: dict[str, Any], data: Staged, figures: dict[str, float]) -> Fit:
        params = self.params | {"chosen": chosen} | ({"tuning": self.tuning.model_dump()} if self.tuning else {})
        return Fit(params, [], figures | {"training_lists": float(data.rows)}, weights)

    @cached_property
    def tuning(self) -> TuningConfig | None:
        """How the language model that reads items is tuned, None: it is not."""
        return tuning_of(self.params, self.catalogue.tables)

    def _network(
        self, data: Staged, asked: Staged | None, numbers: Numbers, planned: dict[str, Any], until: float | None,
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, Any]]:
        """Arrays of a network trained for the epochs `planned`, or as many as there is time for; its figures, what `asked` chose."""
        torch.manual_seed(self.params["seed"])
        read = data.fields["h_text"].shape[-1] if "h_text" in data.fields else 0
        mine, text, place = np.flatnonzero(numbers.number), self.catalogue.text, self.catalogue.place
        side = Side.of_training(self.params, self.catalogue.tables, mine, numbers.met)
        learns = {key: planned[key] for key in ("loss", "half_life") if key in planned}
        by_lift = "loss" in learns
        params = self.params | {"network": self.params["network"] | learns}
        net = make_network(self.name, params, len(mine), text.shape[1], read, side.sizes, len(numbers.segments))
        if net.config.loss == "lift":
            net.meet(*map(torch.from_numpy, meetings(data)))
        put(net, side.rows(self.catalogue.tables, mine, numbers.number))
        if text.shape[1]:
            net.item.said[1:] = torch.from_numpy(self.catalogue.of_items(text, mine, 0))
        if place.shape[1]:
            net.item_place[1:] = torch.from_numpy(self.catalogue.of_items(place, mine, np.nan))
        net.prepare({name: torch.from_numpy(values.copy()) for name, values in read_columns(data, data.fields, SEEN_BEFORE).items()})
        settings = {
            "batch_size": int(np.clip(data.rows // STEPS, *BATCH)), "lr": 2e-3, "epochs": planned["epochs"], "seed": self.params["seed"],
            "patience": 5, "tensorboard": False, **net.learning, **self.params["train"]}
        tunes = self.tuning is not None and planned.get("tuning_epochs", 1) > 0
        name = "-".join(["run", *map(str, learns.values())])
        how, config = self._train(net, data, None if by_lift else asked, settings, until, FROZEN_FIRST if tunes else 1.0, name)
        arrays: dict[str, np.ndarray] = {}
        figures, chosen = _figures(how, asked), {} if asked is None else {"epochs": how.best_epochs}
        if BETTER in how.metrics:
            chosen["epochs"], steady = how.steady(BETTER)
            figures[STEADY] = round(steady, 6)
        if tunes:
            arrays, more, epochs = self._tuned(net, mine, data, asked, settings, planned.get("tuning_epochs"), until, how)
            figures, chosen = figures | more, chosen | ({} if asked is None else {"tuning_epochs": epochs})
        if asked is not None and net.probabilities and not joining(self.params):
            reader = Reader(asked, config.batch_size, shuffle=False, even=False, kind=config.reader, pool=config.pool)
            figures, chosen = _with_threshold(figures, chosen, best_threshold(net.cpu().eval(), reader))
        return arrays_of(net) | arrays | side.arrays | numbers.arrays, figures, chosen

    def _train(
        self, net: NextItem, data: Staged, asked: Staged | None, settings: dict[str, Any], until: float | None, share: float,
        name: str = "run",
    ) -> tuple[Trained, TrainConfig]:
        """Epochs as many as fit into a share of the time."""
        if until is not None:
            left_s = seconds_left(until, share)
            settings |= {"max_minutes": left_s / 60, "epochs": _affordable(net, data, TrainConfig(**settings), SPARE * left_s)}
        config = TrainConfig(**settings)
        how = train(net, data, asked, config, self.folder / f"{name}-{data.folder.name}", check_hashes=False)
        log.info("%s: %d items, %.1f epochs, %.0f s, %.0f %% waiting, %s, %s", self.name, net.n_items, how.epochs, how.seconds,
                 100 * how.waiting_share, how.why, json.dumps([round(h["metrics"].get("ndcg@10", 0), 4) for h in how.history]))
        return how, config

    def _tuned(
        self, net: NextItem, mine: np.ndarray, data: Staged, asked: Staged | None, settings: dict[str, Any], epochs: int | None,
        until: float | None, before: Trained,
    ) -> tuple[dict[str, np.ndarray], dict[str, float], int]:
        """Arrays beside the network's, figures before and after, the epochs that were best: 0, and the frozen network, where none was."""
        frozen = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        t = self.tuning
        settings = settings | {"lr": t.lr, "warmup": t.warmup, "epochs": epochs or t.epochs, "patience": PATIENCE}
        texts = texts_of(self.catalogue.tables, mine)
        tuned, (how, config) = tune(net, t, texts, lambda: self._train(net, data, asked, settings, until, 1.0, "tuning"))
        if asked is None:
            return tuned.arrays, tuned.figures, config.epochs
        figures = {f"frozen_{name}": round(value, 6) for name, value in before.metrics.items()} | tuned.figures
        figures |= {f"tuned_{name}": round(value, 6) for name, value in how.metrics.items()}
        if how.metrics[config.metric] <= before.metrics[config.metric]:
            net.load_state_dict(frozen)
            return {}, figures, 0
        return tuned.arrays, figures | _figures(how, asked), how.best_epochs


def _affordable(net: NextItem, data: Staged, config: TrainConfig, seconds: float) -> int:
    """Epochs of so many seconds, by the first few steps; at least one."""
    device = pick_device(config)
    net.to(device)
    reader = Reader(data, config.batch_size, seed=config.seed, kind=config.reader, pool=config.pool)
    row_s = []
    with reader.epoch(0) as batches:
        for _, batch in zip(range(STEPS_MEASURED), batches, strict=False):
            began = time.monotonic()
            net.loss({name: torch.from_numpy(values).to(device) for name, values in batch.items()}).backward()
            finish(device)
            row_s.append((time.monotonic() - began) / len(batch["n_truth"]))
    net.zero_grad(set_to_none=True)
    epoch_s = float(np.median(row_s)) * data.rows       # the first step prepares, and others may be disturbed
    if epoch_s * config.epochs > seconds:
        log.warning("%.0f s an epoch: time for %d epochs of %d", epoch_s, max(1, seconds // epoch_s), config.epochs)
    return int(np.clip(seconds // epoch_s, 1, config.epochs))


def _with_threshold(figures: dict[str, float], chosen: dict[str, Any], found: Threshold) -> tuple[dict[str, float], dict[str, Any]]:
    said = asdict(found)
    return figures | {name: value for name, value in said.items() if name != "at"}, chosen | {"threshold": said}


def _figures(how: Trained, asked: Staged | None) -> dict[str, float]:
    if asked is None:
        return {}
    return {name: round(value, 6) for name, value in errors_of(how.metrics).items()} | {"lists": float(asked.rows)}
