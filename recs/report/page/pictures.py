"""The pictures of a night's page, from its facts.  None where there is nothing to draw."""
from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from markupsafe import Markup

from ..show import Row
from .charts import Series, curve, figure3, over_places, share, stacked
from .drift import TREND, Drift
from .facts import Arrived, Became, Night
from .flow import Stream, flow, split
from .lists import Lists

AGAIN, NOT_SERVED = "older lists served again", "not published"
Charts = dict[str, Markup]


def trend(came: Became) -> Markup | None:
    """The headline figure day by day with its interval, the seven-day mean with its band, popularity beside it."""
    days = [d for d in came.days if d["value"] is not None]
    if not days:
        return None

    def column(name: str) -> list[float | None]:
        return [d[name] for d in days]

    series = [
        Series("mean of seven days", column("trend"), colour=1, dots=False),
        Series("its 95 % band", column("trend"), [_floor(v) for v in column("trend_low")], column("trend_high"), line=False, dots=False,
               band=True),
        Series("yesterday’s popularity", column("popularity"), colour=2),
        Series("lists as served", column("value"), column("low"), column("high"), line=False,
               hollow={n for n, d in enumerate(days) if not d["is_whole"]}),
    ]
    name = days[-1]["headline"].replace("ndcg", "NDCG")
    return over_places(
        f"{name} of the served lists by day", [_short(d["served_on"]) for d in days], series, width=740, height=290,
        shaded=[n for n, d in enumerate(days) if d["served_again"]], note=AGAIN, counts=[f"{d['n_judged']:,}" for d in days])


def gains(came: Became) -> Markup | None:
    """The paired difference to popularity by day, with its interval."""
    days = [d for d in came.days if d["gain"] is not None]
    if not days:
        return None
    series = Series("lists less popularity", [d["gain"] for d in days], [d["gain_low"] for d in days], [d["gain_high"] for d in days],
                    line=False)
    return over_places(
        "difference to yesterday’s popularity by day", [_short(d["served_on"]) for d in days], [series], say=lambda v: f"{v:+.2f}",
        shaded=[n for n, d in enumerate(days) if d["served_again"]], note=AGAIN)


def rows_flow(read: Arrived) -> Markup | None:
    """Raw rows, and what each became."""
    total = read.total("rows_in")
    if not total:
        return None
    parts = [
        split("events", read.total("rows_accepted"), read.kinds, 1, "others, or erased since"),
        split("quarantined", read.total("rows_quarantined"), read.reasons, 2, "others, or erased since"),
        Stream("duplicates, merged", read.total("rows_duplicate"), 6),
    ]
    return flow("rows read and what they became", Stream("rows read", total, 7, tuple(p for p in parts if p.n)))


def places_flow(lists: Lists, night: Night) -> Markup | None:
    """Places in users' lists: who filled them, and with what reason."""
    mix = lists.mix.get(night.standing, {})
    if not mix:
        return None
    colours = {"model": 1, "rule": 3}
    sources = []
    for source in sorted({s for s, _ in mix}, key=lambda s: -sum(n for (other, _), n in mix.items() if other == s)):
        of = [(code.replace("_", " "), n) for (s, code), n in mix.items() if s == source]
        sources.append(split(source, sum(n for _, n in of), of, colours.get(source, 2), "others"))
    made = next(r for r in lists.made_of if r["run_date"] == night.standing)
    whole = Stream(f"places in {made['n_user_lists']:,} users’ lists", made["places"], 7, tuple(sources))
    return flow("places in users’ lists by who filled them and why", whole, tall=120)


def of_lists(lists: Lists, known: Sequence[Row]) -> Charts:
    """Small charts over the last nights: lists, coverage, concentration, fallback, overlap, reasons; grey: nights not published."""
    made = {r["run_date"]: r for r in lists.made_of}
    days = sorted({*made, *(r["run_date"] for r in known)})
    if not made:
        return {}
    labels = [_short(d) for d in days]
    grey = {"shaded": [n for n, d in enumerate(days) if d not in made], "note": NOT_SERVED}
    overlap = {r["run_date"]: r["audit"].get("overlap", {}).get("value") for r in known}

    def small(title: str, series: Sequence[Series], say=share, legended: bool = False, zero: bool = True) -> Markup:
        return over_places(title, labels, series, width=340, height=180, say=say, legended=legended, zero=zero, **grey)

    def of(spread) -> list[float | None]:
        return [spread(lists.spread[d]) if d in lists.spread else None for d in days]

    def per_night(value) -> list[float | None]:
        return [value(made[d]) if d in made and made[d]["places"] else None for d in days]

    filled = per_night(lambda r: r["not_model"] / r["places"])
    reasons = [(code.replace("_", " "), n % 7 + 1, lists.reason_shares(code, days)) for n, code in enumerate(lists.reasons())]
    return {
        "lists": small("users with a list of their own", [Series("lists", per_night(lambda r: float(r["n_user_lists"])))], _count),
        "coverage": small("share of the catalogue in somebody’s list", [Series("coverage", of(lambda s: s.items / s.catalogue))]),
        "top": small("share of all places taken by the ten most listed items", [Series("top ten", of(lambda s: s.held_by_top(10)))]),
        "gini": small("unevenness of places over the catalogue (Gini)", [Series("Gini", of(lambda s: s.gini))], figure3),
        "fallback": small("share of places filled without the model", [Series("fallback", filled, colour=2)]),
        "overlap": small("share of a user’s items kept from the night before", [Series("kept", [overlap.get(d) for d in days], colour=3)]),
        "reasons": stacked("why items stand in users’ lists", labels, reasons, width=1040, height=200, **grey),
    }


def lorenz(points: Sequence[tuple[float, float]]) -> Markup:
    """How much of the places the most listed items take."""
    return curve("share of places by share of the catalogue", points, "share of the catalogue, most listed first")


def drifting(drift: Drift | None, night: Night) -> Markup | None:
    """How far each week lies from the one before it, over the last days."""
    if drift is None or not any(drift.distances.values()):
        return None
    backs = range(TREND - 1, -1, -1)
    cut = night.last["as_of"].date()
    labels = [_short(cut - timedelta(days=b)) for b in backs]
    series = [
        Series(name, [drift.distances[name].get(b) for b in backs], colour=colour) for name, colour in (("items", 1), ("categories", 2))
    ]
    return over_places("distance of a week to the week before", labels, series, say=share, height=220)


def _short(day: date) -> str:
    return f"{day.day} {day:%b}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _floor(value: float | None) -> float | None:
    """NDCG is not below 0."""
    return None if value is None else max(value, 0.0)
