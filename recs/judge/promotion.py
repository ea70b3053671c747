"""When a model may become champion.

    first       nobody reigns: the best by the figures of its fit, made on nights before the cut
    recipe      another model, or another configuration of it: better than the champion and than recent popularity, the lower end of
                both paired 95 % intervals above 0
    refit       the reigning recipe fitted again: not worse, the lower end above -delta
    by_hand     a person's word; only the smoke inference is asked for

The nights that judge lie after everything a contestant was trained on.  A model fitted tonight has none yet, so its recipe is judged: a
twin of it, fitted as of the first of the judging nights, stands in (docs/decisions/0006).
"""
from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .bootstrap import Estimate
from .champions import Row

if TYPE_CHECKING:
    from recs.clock import Night
    from recs.config import Config, PromotionConfig

BASELINE = "recent_popularity"


def recipe_of(name: str, config: Config) -> str:
    """`<name>@<hash>`: the model and all of the configuration that it is made from; how often it is fitted, and from where, is not."""
    body = config.model_dump(mode="json")
    made_from = {part: body[part] for part in ("sequences", "item_tables", "fit")} | {"own": body.get(name)}
    for when in ("every", "warm_starts"):
        made_from["fit"].pop(when)
    made_from["event_types"] = body["log"]["events"]["event_types"]
    if name in config.parameters:
        made_from["parameters"] = body["parameters"][name]
    return f"{name}@{hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]}"


def first_champion(rows: Sequence[Row], metric: str) -> tuple[Row, str]:
    """The best of models fitted together, and why in words.  Of equals the one named first; without figures the baseline."""
    scores = {r["model_version"]: json.loads(r["metrics"]).get(metric) for r in rows}
    told = [r for r in rows if scores[r["model_version"]] is not None]
    if not told:
        row = next((r for r in rows if r["name"] == BASELINE), rows[0])
        return row, f"first night: nothing followed the earlier nights, so no model has figures; {row['name']} needs none"
    ranked = sorted(told, key=lambda r: -scores[r["model_version"]])
    others = ", ".join(f"{r['name']} {scores[r['model_version']]:.4f}" for r in ranked[1:])
    lists = int(json.loads(ranked[0]["metrics"]).get("lists", 0))
    score = scores[ranked[0]["model_version"]]
    best = f"first night: {ranked[0]['name']} has the best {metric} on the nights the models were fitted on, {score:.4f}"
    return ranked[0], f"{best} ({lists} lists; {others})" if others else f"{best} ({lists} lists; alone)"


@dataclass(frozen=True)
class Window:
    """The nights that judge, and who has to be fitted again as of the first of them."""

    nights: list[Night]
    twins: frozenset[str]       # model versions
    why_not: str = ""           # set when there can be no judgement

    @property
    def judged(self) -> str:
        """As in the table `promotions`."""
        return "recipes" if self.twins else "models"


def window(nights: Sequence[Night], champion: Row, challengers: Sequence[Row], refittable: bool, config: PromotionConfig) -> Window:
    """Which of the past nights (ascending) judge.

    Those after everything, where they are enough; else the last `nights` of them, with twins for whoever knows them already.  A champion
    of another configuration than today's cannot be fitted again (`refittable` false): then the nights after it have to do.
    """
    last = list(nights)[-config.nights :]
    through = {r["model_version"]: r["trained_through_us"] for r in (champion, *challengers)}
    after_all = [n for n in last if n.as_of_us >= max(through.values())]
    if len(after_all) >= config.min_nights:
        return Window(after_all, frozenset())
    if not refittable:
        last = [n for n in last if n.as_of_us >= champion["trained_through_us"]]
    if len(last) < config.min_nights:
        after = "" if refittable else f" after {champion['model_version']}, whose configuration is no longer here to be fitted again"
        return Window([], frozenset(), f"only {len(last)} past nights{after} with what followed; {config.min_nights} are needed")
    return Window(last, frozenset(v for v, us in through.items() if us > last[0].as_of_us))


@dataclass(frozen=True)
class Gains:
    """Paired differences of a challenger on the judging nights; `over_baseline` None where one of the two is the baseline itself."""

    metric: str
    over_champion: Estimate
    over_baseline: Estimate | None
    lists: int

    def facts(self) -> dict[str, Any]:
        """For the decision's evidence."""
        out: dict[str, Any] = {"metric": self.metric, "lists": self.lists}
        for who, e in (("champion", self.over_champion), ("baseline", self.over_baseline)):
            # JSON knows no NaN
            known = e is not None and math.isfinite(e.value)
            out[f"over_{who}"] = {"value": e.value, "low": e.low, "high": e.high, "p": e.p} if known else None
        return out


def verdict(kind: str, gains: Gains, config: PromotionConfig) -> tuple[bool, str]:
    """May the challenger reign, and why (not).  An interval that could not be drawn (NaN) is never above anything."""
    told = f"{gains.metric} {_signed(gains.over_champion)} against the champion"
    if kind == "refit":
        limit = -config.not_worse
        if gains.over_champion.low > limit:
            return True, f"not worse: {told} (limit {limit:g})"
        return False, f"may be worse: {told}, the lower end is not above {limit:g}"
    if not gains.over_champion.low > 0:
        return False, f"not better: {told}"
    if gains.over_baseline is not None:
        told += f", {_signed(gains.over_baseline)} against {BASELINE}"
        if not gains.over_baseline.low > 0:
            return False, f"not better: {told}"
    return True, f"better: {told}"


def _signed(e: Estimate) -> str:
    return f"{e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}]"
