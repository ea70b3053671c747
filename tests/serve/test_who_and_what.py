"""Who gets a list, what may not be in it, segments' lists, lists carried forward: small frames in, small frames out."""
from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from serve_world import contract_frame, frame

from recs.clock import DAY, HOUR, Night, micros
from recs.config import EventType, ListConfig, RuleConfig
from recs.schemas import BLOCKS, EVENTS, ITEM_HOURS, ITEM_VOCABULARY, ITEMS, RECOMMENDATIONS, USERS
from recs.serve import carry, hidden, segments
from recs.serve.nights import Attempt
from recs.serve.policy import audiences
from recs.serve.rules import Rules

AS_OF = datetime(2024, 3, 31, tzinfo=UTC)
NIGHT = Night(date(2024, 3, 31), AS_OF, AS_OF + timedelta(hours=7))
STARTED = AS_OF + timedelta(hours=1)
ATTEMPT = Attempt(NIGHT, "main", 1, max_batch=5, started_us=micros(STARTED), config_hash="c", code_version="v")
H = timedelta(hours=1)
D = timedelta(days=1)


def user(user_id, valid_from=datetime(1970, 1, 1, tzinfo=UTC), valid_to=None, segment=None, opt_out=False, batch_id=1):
    return locals()


def test_the_policy_says_who_gets_which_list(spark):
    sequences = frame(spark, 
        [
            ("ann", AS_OF - 90 * D),        # an event exactly 90 days before the cut: active
            ("bob", AS_OF - 90 * D - timedelta(microseconds=1)),    # a microsecond earlier: dormant
            ("cat", AS_OF - D),             # active, no row in users
            ("dan", AS_OF - D),             # opted out
            ("eve", AS_OF - D),             # opts out between cut and use: no list
            ("fay", AS_OF - D),             # opts out after the list is used: still a list
            ("gus", AS_OF - D),             # opted out once, then in again
            ("hal", AS_OF - D),             # opted out by a batch this night does not know
        ],
        "user_id string, last_ts timestamp",
    )
    users = contract_frame(spark, USERS, [
        user("ann", segment="gold"),
        user("ann", valid_from=AS_OF, segment="silver"),    # begins right at the cut: known
        user("bob", segment="gold", valid_to=AS_OF - D),    # closed by a later row of a batch that is not known: the old one holds
        user("bob", segment="lead", valid_from=AS_OF - D, batch_id=6),
        user("dan", opt_out=True),
        user("eve", opt_out=True, valid_from=AS_OF + 7 * H),
        user("fay", opt_out=True, valid_from=AS_OF + 8 * H),
        user("gus", opt_out=True), user("gus", valid_from=AS_OF - D),
        user("hal", opt_out=True, batch_id=6),
        user("new", segment="gold"),                        # no history
        user("gone", opt_out=True),
    ])
    found = {r.user_id: (r.audience, r.segment) for r in audiences(sequences, users, ATTEMPT, 90).collect()}
    assert found == {
        "ann": ("user", "silver"), "bob": ("segment", "gold"), "cat": ("user", "all"), "dan": ("none", "all"), "eve": ("none", "all"),
        "fay": ("user", "all"), "gus": ("user", "all"), "hal": ("user", "all"), "new": ("segment", "gold"), "gone": ("none", "all"),
    }


def test_blocks_count_from_when_they_were_made_to_when_the_list_is_used(spark):
    long_ago, after_start = STARTED - 30 * D, STARTED + timedelta(microseconds=1)
    blocks = contract_frame(spark, BLOCKS, [
        {"item_id": "for_good", "blocked_from": long_ago},
        {"item_id": "for_bob", "user_id": "bob", "blocked_from": long_ago},
        {"item_id": "until_use", "blocked_from": long_ago, "blocked_until": AS_OF + 7 * H},     # held when the attempt started
        {"item_id": "over", "blocked_from": long_ago, "blocked_until": STARTED},
        {"item_id": "too_late", "blocked_from": after_start},       # waits for --refresh: a re-run gives the same lists
        {"item_id": "unknown", "blocked_from": long_ago},
    ])
    names = ["for_good", "for_bob", "until_use", "over", "too_late"]
    vocabulary = contract_frame(spark, ITEM_VOCABULARY, [{"item_id": n, "item_index": i} for i, n in enumerate(names)])
    in_force = hidden.blocks_in_force(blocks, vocabulary, ATTEMPT)
    assert {(r.user_id, r.item_id) for r in in_force.collect()} == {(None, "for_good"), ("bob", "for_bob"), (None, "until_use")}
    assert hidden.for_everybody(in_force) == (0, 2)
    assert [tuple(r) for r in hidden.hidden_items(in_force, None).collect()] == [("bob", [1])]


def test_a_block_made_today_counts_for_a_night_of_the_past(spark):
    late = Attempt(NIGHT, "main", 2, 5, started_us=micros(AS_OF + 700 * D), config_hash="c", code_version="v")
    blocks = contract_frame(spark, BLOCKS, [{"item_id": "a", "blocked_from": AS_OF + 699 * D}])
    vocabulary = contract_frame(spark, ITEM_VOCABULARY, [{"item_id": "a", "item_index": 0}])
    assert hidden.blocks_in_force(blocks, vocabulary, late).count() == 1


def test_the_catalogue_says_what_is_available_when_the_list_is_used(spark):
    serve, epoch, tick = NIGHT.serve_at, datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    items = contract_frame(spark, ITEMS, [
        {"item_id": "open", "valid_from": epoch, "batch_id": 1, "available_from": serve, "available_until": serve + tick},
        {"item_id": "early", "valid_from": epoch, "batch_id": 1, "available_from": serve + tick},
        {"item_id": "late", "valid_from": epoch, "batch_id": 1, "available_until": serve},
        {"item_id": "not_known_yet", "valid_from": epoch, "batch_id": 6, "available_until": epoch},
        {"item_id": "later_row", "valid_from": AS_OF + H, "batch_id": 1, "available_until": epoch},
        {"item_id": "category", "valid_from": epoch, "batch_id": 1, "category": "home/kitchen"},
        {"item_id": "left", "valid_from": epoch, "valid_to": serve, "batch_id": 1},                 # no row after it: gone
        {"item_id": "renamed", "valid_from": epoch, "valid_to": AS_OF - H, "batch_id": 1, "available_until": epoch},
        {"item_id": "renamed", "valid_from": AS_OF - H, "batch_id": 1},
        {"item_id": "closed_later", "valid_from": epoch, "valid_to": AS_OF - H, "batch_id": 1, "category": "toys"},
        {"item_id": "closed_later", "valid_from": AS_OF - H, "batch_id": 6, "available_until": epoch},      # of a batch not known yet
    ])
    vocabulary = contract_frame(spark, ITEM_VOCABULARY, [
        {"item_id": "open", "item_index": 0}, {"item_id": "gone", "item_index": 1, "tombstoned_on": date(2024, 3, 31)},
        {"item_id": "goes", "item_index": 2, "tombstoned_on": date(2024, 4, 1)},
    ])
    assert {r.item_id for r in hidden.unavailable(items, vocabulary, ATTEMPT).collect()} == {"early", "late", "left", "gone"}
    categories = {r.item_id: r.category for r in hidden.catalogue(items, ATTEMPT).collect()}
    assert (categories["category"], categories["closed_later"]) == ("home", "toys")


TYPES = {"view": EventType(code=1), "buy": EventType(code=2)}


def test_events_older_than_a_full_sequence_still_hide_their_items(spark):
    rules = Rules.of(RuleConfig.model_validate({"seen": {"default": "never", "by_type": {"view": 30}}}), TYPES)
    sequences = frame(spark, 
        [("ann", 3, AS_OF - 10 * D), ("bob", 2, AS_OF - 10 * D)], "user_id string, n_events bigint, first_ts timestamp",
    )

    def event(user_id, item_index, age, type_code, batch_id=1):
        return {"user_id": user_id, "item_index": item_index, "ts": AS_OF - age, "type_code": type_code, "batch_id": batch_id}

    events = contract_frame(spark, EVENTS, [
        event("ann", 1, 400 * D, 2),            # bought long ago: never again
        event("ann", 2, 20 * D, 1),             # viewed within 30 days
        event("ann", 3, 40 * D, 1),             # viewed before that: may come back
        event("ann", 4, 5 * D, 2),              # inside the sequence: known from there
        event("ann", 5, 400 * D, 2, batch_id=6),    # not known to this night
        event("bob", 1, 400 * D, 2),            # bob's sequence is not full: it holds everything
    ])
    older = hidden.older_seen(events, sequences, rules, 3, ATTEMPT)
    assert sorted(tuple(r) for r in older.collect()) == [("ann", 1), ("ann", 2)]
    assert hidden.older_seen(events, sequences.where("user_id = 'bob'"), rules, 3, ATTEMPT) is None
    assert hidden.older_seen(events, sequences, Rules(), 3, ATTEMPT) is None


def hour(item_id, age_h, segment="", n=1):
    return {"item_id": item_id, "item_index": 0, "hour": AS_OF - age_h * H, "segment": segment, "n_day_users": n}


def segment_rows(spark, hours, wanted, config, out_of=(), categories=None):
    named = frame(spark, [(s,) for s in wanted], "segment string")
    shut = frame(spark, [(i,) for i in out_of], "item_id string")
    catalogue = frame(spark, list((categories or {"-": None}).items()), "item_id string, category string")
    out = segments.segment_lists(contract_frame(spark, ITEM_HOURS, hours), named, shut, catalogue, micros(AS_OF), config)
    lists: dict[str, list] = {}
    for r in sorted(out.collect(), key=lambda r: (r.user_id, r["rank"])):
        lists.setdefault(r.user_id, []).append((r.item_id, r.source))
        assert r["rank"] == len(lists[r.user_id])
        assert r.score > 0
    return lists


def test_a_segments_list_is_what_its_users_met_lately(spark):
    hours = [
        hour("a", 1, "gold", 3), hour("b", 1, "gold", 2), hour("b", 1, "lead", 2),
        hour("c", 20 * 24 + 1, "gold", 9),      # two half-lives before the newest hour: worth 2.25
        hour("d", 1, "", 9),                    # users without a segment count for `all` only
        hour("e", 0, "gold", 99),               # the hour that begins at the cut
        hour("x", 1, "gold", 50),               # may not be shown
    ]
    lists = segment_rows(spark, hours, ["gold", "lead", "all"], ListConfig(k=3), out_of=["x"])
    assert lists == {
        "gold": [("a", "segment"), ("c", "segment"), ("b", "segment")],
        "lead": [("b", "segment"), ("d", "fallback"), ("a", "fallback")],
        "all": [("d", "segment"), ("b", "segment"), ("a", "segment")],
    }


def test_a_segments_list_obeys_the_category_cap(spark):
    hours = [hour(i, 1, "gold", n) for i, n in zip("abcdef", (9, 8, 7, 6, 5, 4), strict=True)] + [hour("z", 1, "", 1)]
    categories = {"a": "books", "b": "books", "c": "books", "d": "toys", "e": None, "f": None}
    lists = segment_rows(spark, hours, ["gold"], ListConfig(k=5, rules=RuleConfig(category_cap=1)), categories=categories)
    assert [i for i, _ in lists["gold"]] == ["a", "d", "e", "f", "z"]


def test_users_with_events_the_standing_night_did_not_know(spark):
    since = {"as_of_us": micros(AS_OF - D), "max_batch": 4}

    def event(user_id, age, batch_id):
        return {"user_id": user_id, "ts": AS_OF - age, "batch_id": batch_id}

    events = contract_frame(spark, EVENTS, [
        event("old", 2 * D, 4),         # known then
        event("new", timedelta(hours=3), 5),
        event("late", 9 * D, 5),        # happened long ago, arrived since
        event("waiting", D, 4),         # had arrived but lay after that night's cut
        event("future", timedelta(0), 5),   # at this night's cut
        event("not_yet", 2 * D, 6),
    ])
    assert sorted(r.user_id for r in carry.with_new_events(events, since, ATTEMPT).collect()) == ["late", "new", "waiting"]


def test_carried_lists_lose_what_may_no_longer_be_shown_and_close_ranks(spark):
    def listed(user_id, *items, audience="user"):
        whose = {"audience": audience, "user_id": user_id, "scored_as_of": AS_OF - D}
        return [{**whose, "rank": n, "item_id": i} for n, i in enumerate(items, 1)]

    lists = contract_frame(spark, RECOMMENDATIONS, [
        *listed("ann", "a", "b", "c", "d"), *listed("bob", "a", "b"), *listed("changed", "a"), *listed("dormant", "a"),
        *listed("gold", "a", audience="segment"), *listed("empty", "b"),
    ])
    ids = {n: frame(spark, [(u,) for u in us], "user_id string") for n, us in
           {"who": ["ann", "bob", "changed", "empty", "gold"], "changed": ["changed"]}.items()}
    out_of = frame(spark, [("b",)], "item_id string")
    blocks = frame(spark, [(None, "d"), ("bob", "a")], "user_id string, item_id string")
    kept = carry.carried(lists, ids["who"], ids["changed"], out_of, blocks, 3).collect()
    assert sorted((r.user_id, r["rank"], r.item_id) for r in kept) == [("ann", 1, "a"), ("ann", 2, "c")]
    assert kept[0].scored_as_of.astimezone(UTC) == AS_OF - D


@pytest.mark.parametrize("age_us", [10 * DAY - 1, 10 * DAY])
def test_sql_and_numpy_agree_on_what_hides(spark, age_us):
    import numpy as np
    from pyspark.sql import functions as F

    from recs.evidence.histories import Histories

    rules = Rules(hidden_us={1: 10 * DAY, 2: 0, 3: HOUR}, hidden_default_us=1 << 62)
    at = NIGHT.serve_at_us
    histories = Histories.of(ann=[(0, at - age_us)] * 4)
    histories.type_code[:] = [1, 2, 3, 9]
    events = frame(spark, [(c, at - age_us) for c in (1, 2, 3, 9)], "code int, us bigint")
    sql = [r[0] for r in events.select(hidden.hides_column(F.col("code"), F.col("us"), rules, at)).collect()]
    assert sql == rules.hides(histories, np.array([at])).tolist()
