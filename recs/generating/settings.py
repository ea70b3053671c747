"""What a generated log is asked to be, and what each preset means.  Days are the unit of all durations unless a name ends in `_s`."""
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from recs.clock import parse_instant

EFFECTS = ("order", "gap", "clock", "rhythm", "trend", "text", "place")
DIRT_KINDS = ("duplicate", "late", "bad_time", "malformed", "bot")
PresetName = Literal["shop", "news", "video", "music", "checkins", "ads", "social"]

# where a choice can come from; `Preset.shares` says how often
SOURCES = ("popular", "interest", "theme", "near", "gap", "follow", "repeat")
SOURCE_OF_EFFECT = {"order": "follow", "gap": "gap", "rhythm": "repeat", "text": "theme", "place": "near"}
EMPHASISED = 0.5    # share of the source of the effect a log is made for
# how much likelier than average a visit from this source leads to more (a click, a purchase, a like) and the longer it lasts
MATCH = {"popular": 0.5, "interest": 1.1, "gap": 1.1, "theme": 1.2, "near": 0.8, "follow": 1.2, "repeat": 1.3}


class GenerateError(ValueError):
    """The log cannot be made as asked; the message says what to change."""


@dataclass(frozen=True)
class Kind:
    """One event type: emitted with `chance` after the kind before it in the chain, about `after_s` seconds later."""

    name: str
    code: int
    weight: float = 1.0
    target: bool = True
    chance: float = 1.0
    after_s: float = 0.0
    value: bool = False     # carries the item's price


@dataclass(frozen=True)
class Preset:
    """How one domain behaves.  `shares` are those of the sources with every effect on and every source possible."""

    kinds: tuple[Kind, ...]             # the chain of a visit; the first is always emitted, unless `miss` is
    shares: dict[str, float]
    events_per_user: float
    items_scale: float                  # items = scale * events^0.55
    session_visits: float               # mean visits of a session (geometric)
    visit_gap_s: float                  # mean seconds between visits of a session (exponential)
    dwell_s: float                      # median
    slot: float                         # resolution of appeal
    born_before: float                  # births are uniform from this long before the log to its end
    life: float                         # median life until an item is withdrawn
    half_life: float                    # median half-life of an item's appeal
    floor: float                        # appeal left when it has aged
    burst_share: float = 0.25           # items that have one burst of demand
    burst_height: float = 5.0
    burst_width: float = 3.0
    stay: tuple[float, float] = (0.3, 4.0)  # range of the topics' time constants: how long a mood lasts
    repeatable: float = 0.6             # share of the items that are consumed again
    period: tuple[float, float] = (5.0, 40.0)   # range of their periods
    once: bool = False                  # an item that is not repeatable and was met before is passed over
    miss: Kind | None = None            # what a visit yields instead, more often where the match is bad
    cities: int = 8                     # 1: one town whose cells are neighbourhoods
    placed: bool = False                # items and events have coordinates
    priced: bool = False
    items_are_users: bool = False
    time: Literal["epoch_ms", "iso"] = "epoch_ms"


def _shares(**share: float) -> dict[str, float]:
    assert abs(sum(share.values()) - 1) < 1e-9, share
    return {s: share.get(s, 0.0) for s in SOURCES}


PRESETS: dict[str, Preset] = {
    # long-lived goods, some needed again after weeks, complements after a purchase, sales
    "shop": Preset(
        kinds=(
            Kind("view", 1), Kind("cart", 2, weight=2.0, chance=0.18, after_s=70),
            Kind("purchase", 3, weight=4.0, chance=0.5, after_s=240, value=True),
        ),
        shares=_shares(popular=0.09, interest=0.20, gap=0.17, theme=0.13, follow=0.19, repeat=0.22),
        events_per_user=40, items_scale=1.884, session_visits=3.0, visit_gap_s=80, dwell_s=35, slot=1.0,
        born_before=200, life=400, half_life=60, floor=0.3, stay=(1.0, 20.0), priced=True,
    ),
    # an article lives for two days, is read once, and readers go on to the follow-up
    "news": Preset(
        kinds=(Kind("read", 1), Kind("share", 2, weight=3.0, chance=0.06, after_s=60)),
        shares=_shares(popular=0.24, interest=0.34, gap=0.14, theme=0.14, follow=0.14),
        events_per_user=60, items_scale=12.0, session_visits=4.0, visit_gap_s=75, dwell_s=50, slot=0.25,
        born_before=4, life=2.5, half_life=0.5, floor=0.05, burst_share=0.1, burst_height=8.0, burst_width=0.3,
        stay=(0.2, 2.0), repeatable=0.0, once=True, time="iso",
    ),
    # long visits, few of them, the next episode, releases that fade
    "video": Preset(
        kinds=(Kind("play", 1), Kind("like", 2, weight=2.0, chance=0.12, after_s=1500)),
        shares=_shares(popular=0.12, interest=0.24, gap=0.14, theme=0.16, follow=0.30, repeat=0.04),
        events_per_user=40, items_scale=2.2, session_visits=1.8, visit_gap_s=2400, dwell_s=1700, slot=1.0,
        born_before=150, life=300, half_life=25, floor=0.12, burst_share=0.15, stay=(0.5, 10.0), repeatable=0.15, period=(3.0, 20.0),
        once=True,
    ),
    # many short plays in a row, most of them known ones; a track comes back after hours or days
    "music": Preset(
        kinds=(Kind("play", 1), Kind("like", 2, weight=2.0, chance=0.05, after_s=60)),
        miss=Kind("skip", 3, weight=0.0, target=False, chance=0.15),
        shares=_shares(popular=0.06, interest=0.18, gap=0.10, theme=0.10, follow=0.16, repeat=0.40),
        events_per_user=150, items_scale=3.0, session_visits=9.0, visit_gap_s=210, dwell_s=190, slot=1.0,
        born_before=600, life=5000, half_life=90, floor=0.4, burst_share=0.15, repeatable=0.9, period=(0.3, 7.0), stay=(0.5, 10.0),
    ),
    # one town; people go where they always go, when they always go, and to what is near
    "checkins": Preset(
        kinds=(Kind("checkin", 1), Kind("tip", 2, weight=1.0, target=False, chance=0.06, after_s=900)),
        shares=_shares(popular=0.04, interest=0.10, gap=0.07, theme=0.05, near=0.22, follow=0.07, repeat=0.45),
        events_per_user=60, items_scale=2.2, session_visits=1.6, visit_gap_s=4200, dwell_s=2700, slot=4.0,
        born_before=2000, life=4000, half_life=400, floor=0.6, burst_share=0.1, burst_width=6.0,
        stay=(0.3, 6.0), repeatable=0.8, period=(0.9, 8.0), cities=1, placed=True,
    ),
    # campaigns of two weeks, shown to many and clicked by few: the click is the target
    "ads": Preset(
        kinds=(
            Kind("impression", 1, weight=0.0, target=False), Kind("click", 2, chance=0.20, after_s=4),
            Kind("conversion", 3, weight=5.0, chance=0.15, after_s=600, value=True),
        ),
        shares=_shares(popular=0.30, interest=0.30, gap=0.14, theme=0.12, near=0.06, follow=0.08),
        events_per_user=80, items_scale=1.0, session_visits=5.0, visit_gap_s=60, dwell_s=3, slot=1.0,
        born_before=14, life=14, half_life=8, floor=0.2, burst_share=0.2, repeatable=0.0, priced=True, placed=True,
    ),
    # items are users: friends are visited again and again, friends of friends next, and some people are in fashion
    "social": Preset(
        kinds=(
            Kind("visit", 1), Kind("like", 2, weight=2.0, chance=0.25, after_s=15), Kind("message", 3, weight=3.0, chance=0.2, after_s=90),
        ),
        shares=_shares(popular=0.08, interest=0.18, gap=0.08, theme=0.08, near=0.10, follow=0.14, repeat=0.34),
        events_per_user=80, items_scale=0.0, session_visits=5.0, visit_gap_s=50, dwell_s=20, slot=1.0,
        born_before=300, life=5000, half_life=200, floor=0.5, burst_share=0.15, burst_height=8.0, repeatable=0.9, period=(0.5, 6.0),
        placed=True, items_are_users=True, time="iso",
    ),
}


class GenerateConfig(BaseModel):
    """Which log to make.  The same values give the same rows, whatever the machine's cores or the partitioning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: PresetName = "shop"
    n_events: int = Field(60_000, ge=1_000, le=1_000_000_000)   # expected number of clean rows; the true one is within some per cent
    n_users: int | None = Field(None, ge=1)                     # default: by preset
    n_items: int | None = Field(None, ge=50)                    # default: by preset
    days: int = Field(90, ge=7, le=1500)
    end: date = date(2024, 3, 31)                               # the log ends at 00:00 UTC of this day
    seed: int = Field(7, ge=0, lt=2**63)
    without: tuple[str, ...] = ()                               # effects to switch off
    emphasis: Literal["order", "gap", "clock", "rhythm", "trend", "text", "place"] | None = None    # the effect the log is made for
    dirt: float = Field(0.0, ge=0, le=0.5)                      # dirty rows per clean row, over all kinds
    dirt_kinds: tuple[str, ...] = DIRT_KINDS
    cuts: tuple[datetime, ...] = ()                             # oracle lists as of these instants; default: one day before the end
    horizon: int = Field(1, ge=1, le=28)                        # the oracle's window after a cut
    rollouts: int = Field(256, ge=1, le=4096)                   # futures the oracle averages over; few make lucky items win
    compress: bool = True                                       # gzip the raw files

    @field_validator("without", "dirt_kinds")
    @classmethod
    def _known(cls, v: tuple[str, ...], info: Any) -> tuple[str, ...]:
        known = EFFECTS if info.field_name == "without" else DIRT_KINDS
        if unknown := sorted(set(v) - set(known)):
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return tuple(sorted(set(v), key=known.index))

    @field_validator("cuts", mode="before")
    @classmethod
    def _instants(cls, v: Any) -> Any:
        return tuple(parse_instant(c) if isinstance(c, str) else c for c in v)

    @model_validator(mode="after")
    def _cuts_inside(self) -> GenerateConfig:
        for cut in self.cuts:
            if cut.tzinfo is None or not self.start < cut <= self.stop:
                raise ValueError(f"cut {cut.isoformat()} must have an offset and lie between {self.start:%F} and {self.stop:%F}, 00:00 UTC")
        return self

    @model_validator(mode="after")
    def _emphasis_possible(self) -> GenerateConfig:
        source = SOURCE_OF_EFFECT.get(self.emphasis or "")
        if self.emphasis in self.without:
            raise ValueError(f"emphasis {self.emphasis!r} is switched off by without")
        if source and not PRESETS[self.preset].shares[source]:
            able = ", ".join(name for name, p in PRESETS.items() if p.shares[source])
            raise ValueError(f"preset {self.preset} has no {self.emphasis} effect to emphasise; these have: {able}")
        return self

    @property
    def start(self) -> datetime:
        """Day 0, 00:00 UTC."""
        return self.stop - timedelta(days=self.days)

    @property
    def stop(self) -> datetime:
        """00:00 UTC of `end`; no event at or after it."""
        return datetime.combine(self.end, time(), UTC)

    @property
    def end_date(self) -> date:
        """The last day of the log."""
        return self.end - timedelta(days=1)

    @property
    def meaning(self) -> Preset:
        """The preset; a log made for the trend has more and higher bursts and items that age faster."""
        p = PRESETS[self.preset]
        if self.emphasis != "trend":
            return p
        return replace(p, floor=p.floor / 4, half_life=p.half_life / 2, burst_share=0.6, burst_height=3 * p.burst_height)

    @property
    def users(self) -> int:
        """Number of users."""
        return self.n_users or max(30, round(self.n_events / self.meaning.events_per_user))

    @property
    def items(self) -> int:
        """Number of items."""
        if self.meaning.items_are_users:
            return self.users
        return self.n_items or max(120, round(self.meaning.items_scale * self.n_events**0.55))

    @property
    def cut_times(self) -> tuple[datetime, ...]:
        """The oracle's cuts, ascending."""
        return tuple(sorted(set(self.cuts))) or (self.stop - timedelta(days=1),)

    def has(self, effect: str) -> bool:
        """Is the effect on?"""
        return effect not in self.without

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the sources: half for the emphasised effect's; what an effect that is off would have had goes to the interests."""
        shares = dict(self.meaning.shares)
        if source := SOURCE_OF_EFFECT.get(self.emphasis or ""):
            rest = (1 - EMPHASISED) / (1 - shares[source])
            shares = {s: EMPHASISED if s == source else v * rest for s, v in shares.items()}
        for effect, source in (("order", "follow"), ("text", "theme"), ("place", "near")):
            if not self.has(effect):
                shares["interest"] += shares[source]
                shares[source] = 0.0
        return shares

    @property
    def same_log(self) -> dict[str, Any]:
        """What decides the log itself; the oracle's settings do not."""
        return self.model_dump(mode="json", exclude={"cuts", "horizon", "rollouts"})


def make_config(**settings: Any) -> GenerateConfig:
    """A checked configuration; GenerateError names every setting that is off."""
    try:
        return GenerateConfig(**settings)
    except ValidationError as e:
        raise GenerateError("; ".join(f"{'.'.join(map(str, x['loc'])) or 'settings'}: {x['msg']}" for x in e.errors())) from e
