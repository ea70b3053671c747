"""What a night's lists are made from and held against, read once for both: tables at the attempt's state, as Spark frames."""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from recs.schemas import BLOCKS, EVENTS, ITEM_HOURS, ITEM_VOCABULARY, ITEMS, RECOMMENDATIONS, SEQUENCES, USERS, Table

from . import carry, hidden, nights
from .audit import Against
from .policy import audiences
from .rules import Rules

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.config import Config
    from recs.serve.nights import Attempt
    from recs.tables import Lake


class Readable(Protocol):
    """Where `sequences` and `item_hours` of the attempt's state are read: a Lake, or recs.jobs.derive.Derived for a past state."""

    def read(self, table: Table) -> DataFrame:
        """The rows of a table."""


@dataclass(frozen=True)
class Inputs:
    """The frames of one attempt; each is made when first asked for.  Those that are read several times are kept until `close`."""

    lake: Lake
    derived: Readable
    config: Config
    attempt: Attempt
    _kept: list[DataFrame] = field(default_factory=list)

    def keep(self, frame: DataFrame) -> DataFrame:
        """The frame, computed once: in memory or on disk until `close`."""
        self._kept.append(frame.persist())
        return frame

    def close(self) -> None:
        """Give the memory back."""
        while self._kept:
            self._kept.pop().unpersist()

    @cached_property
    def sequences(self) -> DataFrame:
        """Histories at the attempt’s state."""
        return self.derived.read(SEQUENCES)

    @cached_property
    def item_hours(self) -> DataFrame:
        """Item hours at the attempt’s state."""
        return self.derived.read(ITEM_HOURS)

    @cached_property
    def events(self) -> DataFrame:
        """All events; what the attempt may know is filtered where they are used."""
        return self.lake.read(EVENTS)

    @cached_property
    def vocabulary(self) -> DataFrame:
        """Integers of items."""
        return self.lake.read(ITEM_VOCABULARY)

    @cached_property
    def who(self) -> DataFrame:
        """user_id, audience, segment."""
        return self.keep(audiences(self.sequences, self.lake.read(USERS), self.attempt, self.config.lists.active_days))

    @cached_property
    def blocks(self) -> DataFrame:
        """Blocks in force when the list is used."""
        return hidden.blocks_in_force(self.lake.read(BLOCKS), self.vocabulary, self.attempt)

    @cached_property
    def unavailable(self) -> DataFrame:
        """item_id of items that may not be recommended when the list is used."""
        return hidden.unavailable(self.lake.read(ITEMS), self.vocabulary, self.attempt)

    @cached_property
    def catalogue(self) -> DataFrame:
        """Items as the attempt knows them."""
        return hidden.catalogue(self.lake.read(ITEMS), self.attempt)

    @cached_property
    def rules(self) -> Rules:
        """With what is blocked for everybody."""
        lists, types = self.config.lists, self.config.log.events.event_types
        return Rules.of(lists.rules, types, hidden.for_everybody(self.blocks))

    @cached_property
    def older(self) -> DataFrame | None:
        """What users with a full sequence met before it begins."""
        return hidden.older_seen(self.events, self.sequences, self.rules, self.config.sequences.max_events, self.attempt)

    @cached_property
    def standing(self) -> dict[str, Any] | None:
        """The row of `nights` of the night that stands before this one."""
        return nights.standing(self.lake, self.attempt.list_name, before=self.attempt.night.run_date)

    @cached_property
    def yesterday(self) -> DataFrame | None:
        """Its rows of `recommendations`."""
        from pyspark.sql import functions as F

        if self.standing is None:
            return None
        rows = self.lake.read(RECOMMENDATIONS)
        return rows.where((F.col("run_date") == F.lit(self.standing["run_date"])) & (F.col("list_name") == self.attempt.list_name))

    @cached_property
    def changed(self) -> DataFrame | None:
        """user_id with events since then."""
        return None if self.standing is None else carry.with_new_events(self.events, self.standing, self.attempt)

    def seen(self) -> DataFrame | None:
        """user_id, items array<int>: what the rules hide from each user because of an event; None when nothing hides."""
        from pyspark.sql import functions as F

        if not self.rules.hides_seen:
            return None
        events = F.arrays_zip("item_index", "type_code", "ts")
        request = self.attempt.night.serve_at_us
        hiding = F.filter(events, lambda e: hidden.hides_column(e["type_code"], e["ts"], self.rules, request))
        seen = self.sequences.select("user_id", F.transform(hiding, lambda e: e["item_index"]).alias("items"))
        if self.older is None:
            return seen
        return seen.union(self.older.groupBy("user_id").agg(F.collect_set("item_index").alias("items")))

    def against(self, personal: bool) -> Against:
        """What the audit holds staged lists against; `personal`: does the model tell users different things?"""
        rules = self.config.lists.rules
        return Against(
            attempt=self.attempt, who=self.who, vocabulary=self.vocabulary, unavailable=self.unavailable, blocks=self.blocks,
            seen=self.seen(), categories=self.catalogue, category_cap=rules.category_cap, exclude_self=rules.exclude_self,
            yesterday=self.yesterday, changed=self.changed, personal=personal,
            same_recipe=self.standing is not None and recipe(self.standing["model_version"]) == recipe(self.attempt.model_version),
        )


def recipe(model_version: str) -> str:
    """Name of the recipe in a model version `<name>-<trained_through>-<hash>`."""
    return model_version.split("-")[0]
