"""Did the newest whole day fall?  Against the mean of the days before it, and outside the band in which such a day was to be expected.

    band        mean ± t · s · √(1 + 1/n): where a further day lies with 95 % if it is like the n before (t of Student, n - 1 degrees of
                freedom); s is their standard deviation, or the day’s own error where that is larger
    fell        below the band, and by more than `max_drop` of the mean; or nobody did anything although somebody did before

    >>> days = [Outlook(0.30, 0.02), Outlook(0.32, 0.02), Outlook(0.31, 0.02)]
    >>> [round(x, 3) for x in band(days, Outlook(0.1, 0.02))]       # t = 4.303 (2 degrees of freedom), s = 0.02: their spread is 0.01
    [0.31, 0.211, 0.409]
"""
from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from recs.config import OutcomeConfig

    from .mornings import Day

Z = 1.96


class Outlook(NamedTuple):
    """A day’s headline and its standard error."""

    value: float
    error: float


def band(earlier: Sequence[Outlook], newest: Outlook) -> tuple[float, float, float]:
    """Mean of the earlier days, and the ends of the band in which the newest was to be expected."""
    from scipy.stats import t

    n, mean = len(earlier), statistics.fmean(d.value for d in earlier)
    s = max(statistics.stdev(d.value for d in earlier), newest.error)
    reach = float(t.ppf(0.975, n - 1)) * s * math.sqrt(1 + 1 / n)
    return mean, mean - reach, mean + reach


def fallen(days: Sequence[Day], config: OutcomeConfig) -> str | None:
    """What fell, by how much and what to look at, in words; None when nothing did.  `days` ascending."""
    whole = [d for d in days if d.is_whole]
    if not whole:
        return None
    newest, before = whole[-1], whole[:-1][-config.trend_nights :]
    if newest.n_active == 0 and len(before) >= config.min_nights and all(d.n_active for d in before):
        usual = statistics.fmean(d.n_active for d in before)
        return (
            f"no user with a list did anything on {newest.served_on}, on the {len(before)} days before {usual:.0f} a day did: "
            "are events missing?  `batches` shows what was ingested, `events_quarantine` what was refused"
        )
    before = [d for d in before if d.value is not None]
    if newest.value is None or len(before) < config.min_nights:
        return None
    mean, low, high = band([_outlook(d) for d in before], _outlook(newest))
    lost = 1 - newest.value / mean if mean > 0 else 0.0
    if newest.value >= low or lost <= config.max_drop:
        return None
    return "; ".join([
        f"{newest.headline} fell on {newest.served_on}: {newest.value:.4f} ({newest.n_judged:,} lists), {lost:.0%} less than the "
        f"{mean:.4f} of the {len(before)} days before (band {low:.4f} to {high:.4f})",
        *_causes(newest, before, lost),
    ])


def _outlook(d: Day) -> Outlook:
    known = d.low is not None and d.high is not None
    return Outlook(d.value, (d.high - d.low) / (2 * Z) if known else 0.0)


def _causes(newest: Day, before: Sequence[Day], lost: float) -> list[str]:
    """Where to look, what speaks for it first."""
    out = []
    if newest.run_date < newest.served_on:
        out.append(f"the lists of {newest.run_date} were served again: `recs nights` says why the night of {newest.served_on} is missing")
    if newest.model_version != before[-1].model_version:
        out.append(f"the model changed from {before[-1].model_version} to {newest.model_version}: `recs promote --why`")
    popular = [d.popularity for d in before if d.popularity is not None]
    if newest.popularity is not None and popular and statistics.fmean(popular) > 0:
        less = 1 - newest.popularity / statistics.fmean(popular)
        both = f"yesterday’s popularity lost {less:.0%} of its own" if less > 0 else "yesterday’s popularity did not fall"
        out.append(f"{both}: {'look at the day and at its events first' if less > lost / 2 else 'look at the lists first'}")
    if worst := _worst_slice(newest, before):
        part, value, usual = worst
        out.append(f"{part} fell most, {value:.4f} from {usual:.4f}: view `outcomes_by_slice`")
    return out


def _worst_slice(newest: Day, before: Sequence[Day]) -> tuple[str, float, float] | None:
    """The slice that lost most of its mean, of those that every day has."""
    earlier = [dict(d.slices) for d in before]
    usual = {part: statistics.fmean(e[part] for e in earlier) for part, _ in newest.slices if all(part in e for e in earlier)}
    lost = [(value / usual[part], part, value, usual[part]) for part, value in newest.slices if usual.get(part, 0) > 0]
    return min(lost)[1:] if lost else None
