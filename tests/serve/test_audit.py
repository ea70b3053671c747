"""The audit: a clean night passes, and each kind of damage is seen by its own check and by no other."""
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import functions as F
from serve_world import contract_frame
from serve_world import frame as small_frame

from recs.clock import Night, micros
from recs.config import AuditConfig
from recs.schemas import RECOMMENDATIONS
from recs.serve.audit import Against, audit, failures
from recs.serve.nights import Attempt
from recs.serve.score import MODEL_ERROR

AS_OF = datetime(2024, 3, 31, tzinfo=UTC)
NIGHT = Night(date(2024, 3, 31), AS_OF, AS_OF + timedelta(hours=7))
ATTEMPT = Attempt(NIGHT, "main", 1, 5, micros(AS_OF), "c", "v", "tables", "personal-2024-03-30-abc")
USERS = [f"u{n:02d}" for n in range(30)]
VOCABULARY = [f"i{n:02d}" for n in range(40)]


def listed(user_id, items, audience="user", **more):
    row = {
        "run_date": NIGHT.run_date, "list_name": "main", "audience": audience, "user_id": user_id, "source": "model",
        "reason_code": "repeat", "model_version": ATTEMPT.model_version, "scored_as_of": AS_OF, "serve_at": NIGHT.serve_at,
    } | more
    return [{**row, "rank": n, "item_id": i, "score": 1.0 / n, **({} if "score" not in more else {"score": more["score"]})}
            for n, i in enumerate(items, 1)]


def lists_of(users, shift=0):
    """Three items a user, others for others."""
    return [r for n, u in enumerate(users) for r in listed(u, [VOCABULARY[(n + shift + j) % 35] for j in range(3)])]


def staged(spark, rows):
    return contract_frame(spark, RECOMMENDATIONS, rows)


@pytest.fixture
def against(spark):
    def frame(rows, ddl):
        return small_frame(spark, rows, ddl)

    return Against(
        attempt=ATTEMPT,
        who=frame([(u, "user", "gold") for u in USERS] + [("dormant", "segment", "lead"), ("out", "none", "all")],
                  "user_id string, audience string, segment string"),
        vocabulary=frame([(i, n) for n, i in enumerate(VOCABULARY)], "item_id string, item_index int"),
        unavailable=frame([("i36",)], "item_id string"),
        blocks=frame([(None, "i37"), ("u05", "i38")], "user_id string, item_id string"),
        seen=frame([("u06", [39, 5]), ("u07", [])], "user_id string, items array<int>"),
        categories=frame([(i, "books" if n < 5 else None) for n, i in enumerate(VOCABULARY)], "item_id string, category string"),
        category_cap=3, exclude_self=True, yesterday=None, changed=None, same_recipe=True, personal=True,
    )


SEGMENTS = [*listed("gold", ["i01"], "segment", source="segment"), *listed("lead", ["i01"], "segment", source="segment")]


def test_a_clean_first_night_passes(spark, against):
    results = audit(staged(spark, lists_of(USERS) + SEGMENTS), replace(against, seen=None), AuditConfig())
    assert failures(results) == ""
    assert results["user_lists"]["value"] == 30
    assert results["segment_lists"]["value"] == 2
    assert "overlap" not in results


def test_every_damage_is_seen_by_its_own_check(spark, against):
    rows = lists_of(USERS[10:])                                             # ten users are damaged by hand
    rows += listed("out", ["i20"])                                          # opted out; and u00 has no list at all
    rows += [r | {"rank": r["rank"] + 1} for r in listed("u01", ["i20", "i21"])]    # ranks 2, 3
    rows += listed("u02", ["i20", "i20"])                                   # an item twice
    rows += listed("u03", ["i20"], score=-99.0) + listed("u04", ["i20"], score=float("inf"))
    rows += listed("u05", ["i36", "i37", "i38"])                            # withdrawn, blocked for all, blocked for u05
    rows += listed("u06", ["i39", "i20"])                                   # i39 was seen
    rows += listed("u07", ["i00", "i01", "i02", "i03"])                     # four books
    rows += listed("u08", ["nobody", "u08"], reason_code=MODEL_ERROR, source="fallback")    # unknown items, one of them the user
    rows += listed("u09", ["i20"], scored_as_of=AS_OF + timedelta(microseconds=1), evidence_item_id=None, reason_code=None)
    rows += listed("gold", ["i01"], "segment", source="segment", run_date=date(2024, 3, 30))    # and lead has none
    not_a_number = F.when(F.col("score") == -99, float("nan")).otherwise(F.col("score"))     # Arrow would make it NULL
    night = staged(spark, rows).withColumn("score", not_a_number)
    results = audit(night, against, AuditConfig(max_fallback_share=0.01))
    failed = {name: r["value"] for name, r in results.items() if not r["ok"]}
    assert failed == {
        "users_without_list": 1, "lists_without_right": 1, "segments_without_list": 1, "lists_with_bad_ranks": 1,
        "lists_with_an_item_twice": 1, "scores_not_finite": 2, "rows_with_nulls": 1, "rows_of_another_night": 1,
        "rows_that_know_the_future": 1, "unknown_items": 2, "unavailable_items": 1, "blocked_items": 2, "seen_items": 1,
        "users_listed_to_themselves": 1, "lists_over_category_cap": 1,
        "share_of_fallback": pytest.approx(2 / 79, abs=1e-6), "share_of_model_errors": pytest.approx(1 / 30, abs=1e-6),
    }
    assert "users_without_list 1 (limit 0), lists_without_right 1 (limit 0)" in failures(results)


def test_no_rows_fail(spark, against):
    results = audit(staged(spark, [r for r in SEGMENTS if False]), replace(against, seen=None), AuditConfig())
    assert not results["rows"]["ok"]
    assert results["users_without_list"]["value"] == 30


def test_a_collapsed_night_is_held_unless_the_model_tells_everybody_the_same(spark, against):
    rows = [r for u in USERS for r in listed(u, ["i01", "i02"], score=0.5)] + SEGMENTS
    night = staged(spark, rows)
    failed = [n for n, r in audit(night, replace(against, seen=None), AuditConfig()).items() if not r["ok"]]
    assert failed == ["share_of_top_item", "share_of_lists_with_equal_scores"]
    assert failures(audit(night, replace(against, seen=None, personal=False), AuditConfig())) == ""


def test_yesterday_is_compared_but_not_with_a_new_model(spark, against):
    changed = small_frame(spark, [(u,) for u in USERS], "user_id string")
    # the same lists although everybody did something: a frozen model; and yesterday had a third of the lists
    frozen = replace(against, seen=None, yesterday=staged(spark, lists_of(USERS[:25])), changed=changed)
    night = staged(spark, lists_of(USERS) + SEGMENTS)
    results = audit(night, frozen, AuditConfig(max_change_of_lists=0.1))
    assert failures(results) == "change_of_lists 0.2 (limit 0.1), share_of_identical_lists 1 (limit 0.999)"
    assert results["overlap"]["value"] == 1.0
    # nothing in common with yesterday
    other = replace(frozen, yesterday=staged(spark, lists_of(USERS, shift=17)))
    assert failures(audit(night, other, AuditConfig())) == "overlap 0 (limit 0.02)"
    assert failures(audit(night, replace(other, same_recipe=False), AuditConfig())) == ""
