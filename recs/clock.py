"""What a night is.  `run_date` is the local date, in the configured zone, on which the list is first served.

    >>> night = Night.of(date(2024, 3, 31), zone="Europe/Amsterdam", lead=timedelta(hours=7))
    >>> night.as_of.isoformat(), night.serve_at.isoformat()      # 07:00 on the wall; the clocks went forward at 02:00
    ('2024-03-30T23:00:00+00:00', '2024-03-31T05:00:00+00:00')

Two instants and a batch: `as_of` is the knowledge cut (nothing at or after it is read), `serve_at` is when the list will
be used (gaps, clocks and decays are measured to it).  Instants are UTC microseconds since 1970 wherever numbers are kept.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MICROS = 1_000_000
HOUR = 3600 * MICROS
DAY = 24 * HOUR


class ClockError(ValueError):
    """A date, instant or zone that cannot be understood."""


def parse_date(text: str) -> date:
    """`YYYY-MM-DD`, nothing else: dates reach SQL predicates only through here."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ClockError(f"{text!r} is not a date; write YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise ClockError(f"{text!r} is not a date: {e}") from e


def parse_instant(text: str) -> datetime:
    """ISO 8601 with an offset or `Z`; a date alone means 00:00 UTC of that date."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        instant = datetime.fromisoformat(text)
    except ValueError as e:
        raise ClockError(f"{text!r} is not an instant; write 2024-03-31T02:00:00+00:00") from e
    if instant.tzinfo is None:
        raise ClockError(f"{text!r} has no offset; add Z for UTC")
    return instant.astimezone(UTC)


def parse_zone(name: str) -> ZoneInfo:
    """An IANA time zone, e.g. Europe/Amsterdam.  Raises ClockError for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ClockError(f"{name!r} is not a time zone; use an IANA name such as Europe/Amsterdam") from e


def local_today(zone: str) -> date:
    """Today's date by the wall clock of the zone."""
    return datetime.now(parse_zone(zone)).date()


def micros(instant: datetime) -> int:
    """UTC microseconds since 1970, exact."""
    delta = instant.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * MICROS + delta.microseconds


def from_micros(us: int) -> datetime:
    """The instant, in UTC, of microseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(us))


@dataclass(frozen=True)
class Night:
    """`run_date` with its two instants, both UTC."""

    run_date: date
    as_of: datetime
    serve_at: datetime

    def __post_init__(self) -> None:
        if self.serve_at < self.as_of:
            raise ClockError(f"serve_at {self.serve_at} is before as_of {self.as_of}: a list cannot be used before it is made")

    @classmethod
    def of(cls, run_date: date, zone: str = "UTC", lead: timedelta = timedelta(0), as_of: datetime | None = None) -> Night:
        """The night that ends at 00:00 local time of `run_date`; the list is used `lead` later."""
        local_midnight = datetime.combine(run_date, time(), parse_zone(zone))
        cut = as_of or local_midnight.astimezone(UTC)
        # the lead is counted on the wall clock of the zone (07:00 stays 07:00 when the clocks change)
        local_serve = (local_midnight.replace(tzinfo=None) + lead).replace(tzinfo=parse_zone(zone))
        return cls(run_date, cut, max(cut, local_serve.astimezone(UTC)))

    @property
    def as_of_us(self) -> int:
        """The knowledge cut in UTC microseconds since 1970."""
        return micros(self.as_of)

    @property
    def serve_at_us(self) -> int:
        """When the list is used, in UTC microseconds since 1970."""
        return micros(self.serve_at)
