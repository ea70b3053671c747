"""The book of models: which are trained, which one reigns, and every decision about that.

    models        a row per trained model with its status; at most one is champion
    promotions    a row per decision: promoted, refused, rolled back; by whom, why, when, on what evidence

A decision that changes who reigns is one commit on `models` (old champion retired, new one champion), made under the lease `promote` and
only if the champion it was held against still reigns; the commit's note carries the decision, then comes its row in `promotions`.
A run that dies between the two is repaired by the next one.  Who reigns, and who did before, follows from the decisions alone:

    promoted a      a
    promoted b      a b
    refused c       a b
    promoted d      a b d
    rolled back     a b

Instants travel as microseconds: a Python datetime that Spark collects depends on the machine's time zone.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from recs.clock import from_micros
from recs.schemas import MODELS, PROMOTIONS, Table
from recs.tables import ConflictError, Lake, TableError, lease

Row = dict[str, Any]
WRITERS = "recs.promote"


class PromotionError(ValueError):
    """A model cannot become champion as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Decision:
    """A row of `promotions`; `before` is the champion it was held against ('' = none)."""

    model_version: str
    decision: str           # promoted, refused or rolled_back
    kind: str               # first, refit, recipe, by_hand or rollback
    before: str
    by: str
    reason: str
    at_us: int
    judged: str = "nothing"
    nights: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def changes_the_champion(self) -> bool:
        """Does another model reign after it?"""
        return self.decision != "refused"

    @property
    def line(self) -> str:
        """One line for people."""
        stays = f"; {self.before} stays champion" if self.decision == "refused" and self.before else ""
        return f"{self.model_version}: {self.decision.replace('_', ' ')}{stays}: {self.reason}"

    def facts(self) -> Row:
        """As in the table."""
        return {
            "model_version": self.model_version, "decision": self.decision, "kind": self.kind, "before": self.before, "judged": self.judged,
            "nights": self.nights, "evidence": json.dumps(self.evidence, sort_keys=True), "decided_by": self.by, "reason": self.reason,
            "decided_at_us": self.at_us,
        }


def models(lake: Lake, version: int | None = None) -> list[Row]:
    """The rows of `models`, instants as microseconds (`trained_through_us`, `created_at_us`)."""
    return _rows(lake, MODELS, ("trained_through", "created_at"), version)


def decisions(lake: Lake) -> list[Row]:
    """The rows of `promotions`, oldest first, instant as `decided_at_us`."""
    return sorted(_rows(lake, PROMOTIONS, ("decided_at",)), key=lambda r: (r["decided_at_us"], r["model_version"]))


def add_candidates(lake: Lake, rows: list[Row]) -> None:
    """New models as candidates; older candidates of the same names are retired.  One fitted again from the same data keeps its status."""
    known = {r["model_version"]: r for r in models(lake)}
    new = {r["model_version"]: r | {"status": known.get(r["model_version"], r)["status"]} for r in rows}
    newest = {r["name"]: r["trained_through_us"] for r in rows}
    old = [
        r | {"status": "retired"} for v, r in known.items()
        if v not in new and r["status"] == "candidate" and r["trained_through_us"] <= newest.get(r["name"], -1)
    ]
    lake.merge(_models_frame(lake, [*old, *new.values()]), MODELS, {"stage": "train"})


def reign(decided: list[Row]) -> list[str]:
    """Model versions that reigned and were not rolled back, the champion last."""
    out: list[str] = []
    for row in decided:
        if row["decision"] == "promoted":
            out.append(row["model_version"])
        elif row["decision"] == "rolled_back":
            out.pop()
    return out


def champion(lake: Lake, as_of_us: int | None = None) -> Row | None:
    """The row of the champion; with `as_of_us` of the newest one of the reign that knows nothing after it (for past nights)."""
    repair(lake)
    known = {r["model_version"]: r for r in models(lake)}
    for version in reversed(reign(decisions(lake))):
        if version in known and (as_of_us is None or known[version]["trained_through_us"] <= as_of_us):
            return known[version]
    return None


def decide(lake: Lake, decision: Decision, wait_s: float = 0.0) -> Decision:
    """Carry out a decision and write it down.

    ConflictError when another champion reigns than the one it was held against; LeaseError when somebody else is deciding for longer
    than `wait_s`; PromotionError when the model is not in `models` or reigns already.
    """
    with lease(lake.root, "promote", wait_s):
        repair(lake)
        version = max(lake.version(MODELS), 0)
        rows = {r["model_version"]: r for r in models(lake, version if lake.exists(MODELS) else None)}
        booked = decisions(lake)
        reigning = (reign(booked) or [""])[-1]
        if reigning != decision.before:
            raise ConflictError(
                f"{decision.model_version} was held against {decision.before or 'nobody'}, but {reigning or 'nobody'} is champion now "
                f"(decided by {booked[-1]['decided_by'] if booked else 'nobody'}): start again"
            )
        if decision.changes_the_champion:
            _crown(lake, version, rows, decision)
        _record(lake, decision.facts())
    return decision


def _crown(lake: Lake, version: int, rows: dict[str, Row], decision: Decision) -> None:
    """One commit on `models`."""
    if decision.model_version not in rows:
        raise PromotionError(f"no model {decision.model_version}: `models` has {', '.join(sorted(rows)) or 'none'}")
    if decision.model_version == decision.before:
        raise PromotionError(f"{decision.model_version} is champion already")
    retired = [r | {"status": "retired"} for r in rows.values() if r["status"] == "champion"]
    crowned = rows[decision.model_version] | {"status": "champion"}
    lake.merge_after(version, _models_frame(lake, [*retired, crowned]), MODELS, decision.facts(), WRITERS)


def outdone(decision: Decision, best: Decision) -> Decision:
    """One that would have been promoted, where another challenger gained more."""
    return replace(decision, decision="refused", reason=f"outdone by {best.model_version}; {decision.reason}")


def back(lake: Lake, by: str, reason: str, at_us: int) -> Decision:
    """The decision that takes the champion back: the one before reigns again.  PromotionError when there is none before."""
    repair(lake)
    stack = reign(decisions(lake))
    if len(stack) < 2:
        now = f"{stack[0]} is the only champion there was" if stack else "nobody was ever champion"
        raise PromotionError(f"nothing to go back to: {now}")
    return Decision(stack[-2], "rolled_back", "rollback", stack[-1], by, reason, at_us)


def repair(lake: Lake) -> None:
    """Write the row of a decision that was carried out by a run that died before it could write it down.

    Only the newest decision can lack its row: whoever decides repairs first.
    """
    for _, note in lake.commits(MODELS):
        if note.get("decision"):
            facts = {k: note[k] for k in (*(c.name for c in PROMOTIONS.columns if c.name != "decided_at"), "decided_at_us")}
            booked = {(r["decided_at_us"], r["model_version"]) for r in decisions(lake)}
            if (note["decided_at_us"], note["model_version"]) not in booked:
                _record(lake, facts)
            return


def why(lake: Lake) -> str:
    """Who is champion and why, in one line; says so when nobody is."""
    repair(lake)
    return reigning_line(decisions(lake))


def reigning_line(booked: list[Row]) -> str:
    """The same of decisions that were read already, oldest first."""
    stack = reign(booked)
    if not stack:
        return "no champion yet"
    made = next(r for r in reversed(booked) if r["decision"] != "refused")
    refused = [r for r in booked if r["decision"] == "refused" and r["before"] == stack[-1] and r["decided_at_us"] > made["decided_at_us"]]
    since = f"{from_micros(made['decided_at_us']):%Y-%m-%d}"
    line = f"champion {stack[-1]} ({made['kind'].replace('_', ' ')} by {made['decided_by']}, {since}): {made['reason']}"
    return f"{line}; since then refused: {', '.join(r['model_version'] for r in refused[-3:])}" if refused else line


def _record(lake: Lake, facts: Row) -> None:
    lake.append(_frame(lake, [facts], PROMOTIONS, ("decided_at",)), PROMOTIONS, facts)


def _models_frame(lake: Lake, rows: list[Row]):
    return _frame(lake, rows, MODELS, ("trained_through", "created_at"))


def _rows(lake: Lake, table: Table, instants: tuple[str, ...], version: int | None = None) -> list[Row]:
    from pyspark.sql import functions as F

    plain = [c for c in table.column_names if c not in instants]
    rows = lake.read(table, version).select(*plain, *(F.unix_micros(c).alias(f"{c}_us") for c in instants))
    return [r.asDict() for r in rows.collect()]


def _frame(lake: Lake, rows: list[Row], table: Table, instants: tuple[str, ...]):
    from pyspark.sql import functions as F

    types = {c.name: c.type for c in table.columns}
    plain = [c for c in table.column_names if c not in instants]
    names = [*plain, *(f"{c}_us" for c in instants)]
    if missing := sorted({n for r in rows for n in names} - {n for r in rows for n in r}):
        raise TableError(f"{lake.path(table)}: a row lacks {missing}")
    ddl = ", ".join(f"{n} {types.get(n, 'bigint')}" for n in names)
    frame = lake.spark.createDataFrame([tuple(r[n] for n in names) for r in rows], ddl)
    return frame.select(*plain, *(F.timestamp_micros(f"{c}_us").alias(c) for c in instants))
