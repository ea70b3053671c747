"""Who reigns tonight, and whether a challenger may: the rules of recs/judge/promotion.py on the lake's past nights.

    of_the_night    the champion; on the first night the contest's winner; when the reigning recipe is due, it is fitted again with
                    all others, and reigns tonight if it is not worse
    judge           one challenger against the champion and recent popularity on past nights, then the smoke inference
"""
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from recs.config import Config
from recs.etl.news import State
from recs.jobs import item_tables, train
from recs.jobs._again import Contestant, past_nights, replayed
from recs.judge import champions
from recs.judge.bootstrap import Estimate
from recs.judge.comparison import ALL, Figure, compare
from recs.judge.promotion import BASELINE, Gains, Window, first_champion, recipe_of, verdict, window
from recs.schemas import MODELS
from recs.serve import nights
from recs.serve.inputs import Inputs, Readable
from recs.serve.make import model_lists
from recs.serve.score import MODEL_ERROR
from recs.tables import ConflictError, Lake, TableError

Step = Callable[..., Any]
PATIENCE_S = 60.0       # a decision is a commit and a row: whoever is at it is done soon
Row = champions.Row


def of_the_night(lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, anew: bool = False) -> train.Trained:
    """The model that makes this attempt's lists.

    The one in the attempt's tuple where it has been chosen; else the champion that knows nothing after the cut, after the contest of
    a first night, or a refit when one is due (or wanted: `anew`).  A champion that this version of the code cannot serve is succeeded by
    its refit unjudged: it could make no lists to be judged against.
    """
    if attempt.model_version:
        known = [r for r in champions.models(lake) if r["model_version"] == attempt.model_version]
        if not known:
            raise TableError(f"{lake.path(MODELS)} has no model {attempt.model_version}, which {attempt.name} was made with; use --refresh")
        return train.at_hand(lake, known[0])
    latest, reigning = champions.champion(lake), champions.champion(lake, attempt.night.as_of_us)
    fault = train.fault_of(lake, reigning) if reigning is not None else ""
    if reigning is not None and not fault:
        past = latest["model_version"] != reigning["model_version"]     # a night before the champion's time changes nothing
        if past or not (anew or refit_due(champions.models(lake), reigning, config, attempt.night.as_of_us)):
            return train.at_hand(lake, reigning)
    trained = train.fit_all(lake, config, derived, attempt)
    if reigning is None:
        row, why = first_champion([t.row for t in trained], f"ndcg@{config.fit.k}")
        if latest is None:
            first = champions.Decision(row["model_version"], "promoted", "first", "", "night", why, nights.now_us(), judged="fit")
            champions.decide(lake, first, PATIENCE_S)
        return next(t for t in trained if t.version == row["model_version"])    # a past night with no champion of its time: not crowned
    refit = next((t for t in trained if t.row["name"] == reigning["name"]), None)
    if fault:
        heir = refit or trained[0]
        if heir.version != reigning["model_version"]:
            facts = {"before": reigning["model_version"], "by": "night", "reason": fault, "at_us": nights.now_us()}
            kind = "refit" if heir.row["recipe"] == reigning["recipe"] else "recipe"
            champions.decide(lake, champions.Decision(heir.version, "promoted", kind, **facts), PATIENCE_S)
        return heir
    if refit is None or refit.version == reigning["model_version"]:     # no longer configured, or fitted from the same data
        return train.at_hand(lake, reigning)
    decided = judge(lake, config, derived, attempt, refit.row, reigning, "night", quietly)
    try:
        champions.decide(lake, decided, PATIENCE_S)
    except ConflictError:   # a person decided while this was judged: his champion makes the lists
        return train.at_hand(lake, champions.champion(lake, attempt.night.as_of_us) or reigning)
    return refit if decided.changes_the_champion else train.at_hand(lake, reigning)


@contextmanager
def quietly(name: str) -> Iterator[dict[str, Any]]:
    """A step inside a step: neither timed nor shown."""
    yield {}


def refit_due(rows: Sequence[Row], reigning: Row, config: Config, as_of_us: int) -> bool:
    """Is the newest fit of the reigning model by today’s configuration `fit.every` old, or missing?  No, if it is not configured."""
    if reigning["name"] not in config.models:
        return False
    recipe = recipe_of(reigning["name"], config)
    through = [r["trained_through_us"] for r in rows if r["recipe"] == recipe and r["trained_through_us"] <= as_of_us]
    return config.fit.is_due(max(through, default=0), as_of_us)


def judge(
    lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, challenger: Row, reigning: Row, by: str, step: Step,
) -> champions.Decision:
    """The decision about one challenger; nothing is written but the run's own folder, which is removed.

    `derived`: sequences and item_hours at the attempt's state, for the smoke inference.
    """
    kind = "refit" if challenger["recipe"] == reigning["recipe"] else "recipe"
    state = State(attempt.night.as_of_us, attempt.max_batch)
    asked = past_nights(lake, config, state, config.promotion.nights, timedelta(days=1))
    refittable = reigning["recipe"] == recipe_of(reigning["name"], config)
    found = window(asked, reigning, [challenger], refittable, config.promotion)
    facts: dict[str, Any] = {"judged": found.judged, "nights": len(found.nights)}

    def decided(yes: bool, reason: str, **evidence: Any) -> champions.Decision:
        what = "promoted" if yes else "refused"
        at = {"decision": what, "kind": kind, "before": reigning["model_version"], "by": by, "at_us": nights.now_us()}
        return champions.Decision(challenger["model_version"], reason=reason, evidence=evidence, **at, **facts)

    if found.why_not:
        facts["judged"] = "nothing"
        return decided(False, f"not judged: {found.why_not}")
    if kind == "refit" and found.twins >= {challenger["model_version"], reigning["model_version"]}:
        gains = Gains(f"ndcg@{config.fit.k}", Estimate(0.0, 0.0, 0.0), None, 0)     # one recipe fitted as of one night: one and the same
    else:
        gains = gains_on(lake, config, found, challenger, reigning, state.max_batch, step)
    yes, why = verdict(kind, gains, config.promotion)
    why = f"{why}, {len(found.nights)} nights, {gains.lists} lists{_twins_in_words(found, challenger, reigning)}"
    evidence = {"gains": gains.facts(), "run_dates": [str(n.run_date) for n in found.nights], "twins": sorted(found.twins)}
    if yes and (fault := smoke(lake, config, derived, attempt, challenger)):
        return decided(False, f"smoke inference: {fault}; it was {why}", **evidence, smoke=fault)
    return decided(yes, why, **evidence, **({"smoke": "passed"} if yes else {}))


def _twins_in_words(found: Window, challenger: Row, reigning: Row) -> str:
    """Says when not the model itself was judged."""
    if not found.twins:
        return ""
    both = {challenger["model_version"]: "the challenger", reigning["model_version"]: "the champion"}
    who = " and ".join(both[v] for v in both if v in found.twins)
    return f"; {who} by recipe, fitted as of {found.nights[0].as_of:%Y-%m-%d %H:%M} UTC"


def gains_on(lake: Lake, config: Config, found: Window, challenger: Row, reigning: Row, max_batch: int, step: Step) -> Gains:
    """Challenger, champion and baseline on the judging nights, as they are or by their twins."""
    def contestant(label: str, row: Row) -> Contestant:
        return Contestant(label, row["name"], None if row["model_version"] in found.twins else row)

    who, k, metric = [contestant("challenger", challenger), contestant("champion", reigning)], config.fit.k, f"ndcg@{config.fit.k}"
    versus = ["champion"]
    if BASELINE not in (challenger["name"], reigning["name"]):
        who, versus = [*who, Contestant(BASELINE, BASELINE)], [*versus, BASELINE]
    folder = Path(lake.root) / "_runs" / f"{nights.now_us()}-judge"
    try:
        with replayed(lake, config, who, found.nights, max_batch, k, folder, None, step) as again, step("judge"):
            figures = compare(again.lists, again.truth, [c.label for c in who], k, versus)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    over_baseline = _over(figures, metric, BASELINE) if BASELINE in versus else None
    return Gains(metric, _over(figures, metric, "champion"), over_baseline, _lists(figures, metric))


def _over(figures: Sequence[Figure], metric: str, versus: str) -> Estimate:
    nan = float("nan")
    for f in figures:
        if (f.model, f.versus, f.name, f.slice) == ("challenger", versus, metric, ALL):
            return Estimate(f.value, nan if f.low is None else f.low, nan if f.high is None else f.high, f.p)
    return Estimate(nan, nan, nan)      # nothing followed these nights


def _lists(figures: Sequence[Figure], metric: str) -> int:
    return next((f.n for f in figures if (f.model, f.name, f.slice, f.versus) == ("challenger", metric, ALL, "")), 0)


def smoke(lake: Lake, config: Config, derived: Readable, attempt: nights.Attempt, row: Row) -> str:
    """Lists of a few users by the model itself, as the night asks for them; what is wrong with them, '' when nothing is."""
    from pyspark.sql import functions as F

    model, state = train.at_hand(lake, row), State(attempt.night.as_of_us, attempt.max_batch)
    if row["trained_through_us"] > state.as_of_us:
        return "it was trained beyond the cut"
    tables = item_tables.run(lake.spark, lake, config, attempt.night.as_of, model.needs, derived=derived, state=state)
    inputs = Inputs(lake, derived, config, attempt)
    some = inputs.who.where("audience = 'user'").orderBy(F.xxhash64("user_id", F.lit("smoke"))).limit(config.promotion.smoke_users)
    asked = some.persist()
    lists = model_lists(inputs, asked, model.path, tables.path, row["content_hash"])
    k = min(config.lists.k, tables.n_items)
    odd = F.isnan("score") | (F.abs("score") == float("inf"))
    per_user = lists.groupBy("user_id").agg(
        (F.count(F.lit(1)) >= k).alias("whole"), (F.count_if(odd) > 0).alias("odd"),
        (F.count_if(F.col("reason_code") == MODEL_ERROR) > 0).alias("failed"), (F.count_if(F.col("source") == "model") > 0).alias("own"),
    )
    n, whole, n_odd, failed, own = per_user.agg(F.count(F.lit(1)), *(F.count_if(c) for c in ("whole", "odd", "failed", "own"))).first()
    wanted = asked.count()
    asked.unpersist()
    faults = {
        "nobody gets a list of their own, so none could be looked at": not wanted,
        f"{wanted - n} of {wanted} users got no list": n < wanted,
        # rules may leave single users less than k; most have enough
        f"{n - whole} of {n} lists are shorter than {k}": 2 * whole < n,
        f"{n_odd} of {n} lists hold scores that are not finite": n_odd > 0,
        f"the model failed on {failed} of {n} users": failed > 0,
        f"{n - own} of {n} lists hold nothing by the model itself": 2 * own < n,
    }
    return "; ".join(text for text, holds in faults.items() if holds)
