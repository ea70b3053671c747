"""Raw rows -> event columns: ids, values, keys, reasons, and mappings that do not fit."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recs.config import EventMapping, IngestConfig
from recs.etl.mapping import Arrival, MappingError, clean_id, map_events

pytestmark = pytest.mark.spark

PLAIN = {
    "source": {"format": "json"}, "user_id": "u", "item_id": "i", "time": {"kind": "epoch_s", "expr": "t"}, "event_type": "e",
    "event_types": {"view": {"code": 1}, "buy": {"code": 2}}, "value": "v",
}
MAY = 1714521600    # 2024-05-01T00:00:00Z


def raw(spark, rows: list[tuple], ddl: str = "u string, i string, t string, e string, v string", bad: tuple = ()) -> DataFrame:
    """Rows as recs/etl/sources.py hands them on; `bad`: places of malformed ones."""
    frame = spark.createDataFrame([(*r, i, i in bad) for i, r in enumerate(rows)], f"{ddl}, _place bigint, _malformed boolean")
    columns = [c for c in frame.columns if not c.startswith("_")]
    return frame.withColumns({"_seq": F.col("_place") + 100, "_file": F.lit("file:/in/day.json"), "_raw": F.to_json(F.struct(*columns))})


def mapped(spark, rows, arrival: Arrival | None = None, ddl: str | None = None, bad: tuple = (), **changes) -> list:
    mapping = EventMapping(**{**PLAIN, **changes})
    frame = raw(spark, rows, ddl, bad) if ddl else raw(spark, rows, bad=bad)
    events = map_events(frame, mapping, "log", arrival or Arrival())
    as_text = {c: F.col(c).cast("string") for c in ("ts", "event_date")}     # Python has no year 56301
    return events.withColumns(as_text).orderBy("position").collect()


def test_ids(spark):
    said = {
        " ann\t": "ann",
        "\u00a0ann\u3000": "ann",                       # white space of other scripts
        "caf\u00e9": "caf\u00e9",                       # é as one character
        "cafe\u0301": "caf\u00e9",                      # e and an accent: the same text in another Unicode form
        "Ann": "Ann",                                   # case is kept
        "a b": "a b",                                   # white space inside is part of the id
        "": None, "  ": None, "None": None, "nan": None, "NaN": None, "NULL": None,
        "nano": "nano", "0": "0",
        "9007199254740993": "9007199254740993",         # 2^53 + 1
    }
    frame = spark.createDataFrame(list(enumerate(said)), "n int, id string").coalesce(1)
    assert [r[0] for r in frame.orderBy("n").select(clean_id(F.col("id"))).collect()] == list(said.values())


def test_ids_from_numbers_are_exact_and_doubles_are_refused(spark):
    big = 9007199254740993
    rows = mapped(spark, [(big, 12583.0, str(MAY), "view", None)], ddl="u bigint, i double, t string, e string, v string",
                  item_id="try_cast(i AS bigint)")
    assert (rows[0].user_id, rows[0].item_id) == ("9007199254740993", "12583")
    with pytest.raises(MappingError, match=r"log\.events\.item_id: `i` is a floating-point number.*try_cast\(i AS bigint\)"):
        mapped(spark, [(big, 12583.0, "0", "view", None)], ddl="u bigint, i double, t string, e string, v string")


REASONS = [
    (("ann", "x", f"{MAY}", "view", "2.5"), None),
    (("ann", "x", f"{MAY}", "view", None), None),               # no value: allowed
    (("ann", "x", f"{MAY}", "view", "NaN"), None),              # NaN is pandas' way to say the same
    ((None, "x", f"{MAY}", "view", "1"), "no_user"),
    (("ann", "null", f"{MAY}", "view", "1"), "no_item"),
    (("ann", "x", f"{MAY}", "hover", "1"), "unknown_event_type"),
    (("ann", "x", f"{MAY}", None, "1"), "unknown_event_type"),
    (("ann", "x", "yesterday", "view", "1"), "bad_time"),
    (("ann", "x", None, "view", "1"), "bad_time"),
    (("ann", "x", "0", "view", "1"), "too_early"),              # epoch 0
    (("ann", "x", f"{MAY // 1000}", "view", "1"), "too_early"),     # seconds taken for milliseconds, the other way round
    (("ann", "x", f"{MAY}000", "view", "1"), "in_future"),          # milliseconds taken for seconds
    (("ann", "x", "253402300800", "view", "1"), "in_future"),       # the year 10000
    (("ann", "x", f"{MAY}", "view", "abc"), "bad_value"),
    (("ann", "x", f"{MAY}", "view", "-Infinity"), "bad_value"),
    ((None, None, "x", "x", "x"), "no_user"),                   # the first thing that is wrong
]


def test_the_first_thing_that_is_wrong_is_the_reason(spark):
    rows = mapped(spark, [r for r, _ in REASONS])
    assert [r.reason for r in rows] == [reason for _, reason in REASONS]
    assert [r.value for r in rows[:3]] == [2.5, None, None]
    refused, sound = rows[3], rows[0]
    assert refused.raw == f'{{"i":"x","t":"{MAY}","e":"view","v":"1"}}'
    assert refused.source_file == "day.json" and len(refused.row_hash) == 32
    assert (sound.raw, sound.row_hash, sound.source_file) == (None, None, None)     # text is kept for refused rows only


def test_malformed_rows_and_rules_come_before_everything_else(spark):
    rules = [{"keep": "v > 0", "reason": "not_positive"}, {"keep": "u <> 'bot'", "reason": "a_bot"}]
    rows = mapped(spark, [
        (None, "x", "0", "view", "1"),      # malformed
        ("bot", "x", f"{MAY}", "view", "0"),    # breaks both rules: the first counts
        ("bot", "x", f"{MAY}", "view", "1"),
        ("ann", "x", f"{MAY}", "view", None),   # NULL does not hold
        (None, "x", f"{MAY}", "view", "1"),     # a rule over NULL, before no_user
    ], bad=(0,), where=rules)
    assert [r.reason for r in rows] == ["malformed", "not_positive", "a_bot", "not_positive", "a_bot"]


def test_arrival(spark):
    now = datetime.fromtimestamp(MAY, UTC)
    config = IngestConfig(future_slack=timedelta(hours=1), lookback=timedelta(days=7))
    arrival = Arrival.of(config, now, newest=now)
    rows = mapped(spark, [
        ("ann", "x", f"{MAY + 3600}", "view", None),                    # exactly the slack
        ("ann", "x", f"{MAY + 3600}.000001", "view", None),
        ("ann", "x", f"{MAY - 7 * 86400}", "view", None),               # exactly the lookback
        ("ann", "x", f"{MAY - 7 * 86400 - 1}", "view", None),           # late: sound here, its text is kept in case it is refused
    ], arrival)
    assert [r.reason for r in rows] == [None, "in_future", None, None]
    assert [r.raw is not None for r in rows] == [False, True, False, True]
    assert Arrival.of(config, now, newest=None).late_before_us is None
    assert Arrival.of(config, now, newest=now, backfill=True).late_before_us is None


def test_ranges(spark):
    numbers = {"lat": "try_cast(u AS double)", "lon": "try_cast(i AS double)", "dwell_s": "v"}
    rows = mapped(spark, [
        ("52.1", "4.3", f"{MAY}", "view", "0"),
        ("-90.5", "4.3", f"{MAY}", "view", "0"),        # south of the pole
        ("52.1", "181", f"{MAY}", "view", "0"),
        ("52.1", "4.3", f"{MAY}", "view", "-1"),        # negative dwell time
    ], value=None, **numbers)
    assert [r.reason for r in rows] == [None, "bad_value", "bad_value", "bad_value"]
    assert (rows[0].lat, rows[0].lon, rows[0].dwell_s, rows[0].value) == (52.1, 4.3, 0.0, None)


def test_event_ids_are_those_of_the_keys(spark):
    def ids(rows, **changes):
        return [r.event_id for r in mapped(spark, rows, **changes)]

    a = ("ann", "x", f"{MAY}", "view", "1")
    same, other_value, other_item = ids([a, (" ann", "x", f"{MAY}.0", "view", "9"), ("ann", "y", f"{MAY}", "view", "1")])
    assert same == other_value != other_item and len(same) == 32
    # where one key ends and the next begins matters, and NULL is not ''
    keys = {"merge_keys": ["u", "e"], "event_types": {"view": {"code": 1}}}
    rows = [("ab", "x", "1", "c", "1"), ("a", "x", "1", "bc", "1"), ("ab", "x", "1", None, "1"), ("ab", "x", "1", "", "1")]
    assert len(set(ids(rows, **keys))) == 4
    # without an order of its own, a row's place is no part of its identity; with one, the order is
    b = ids([a, a], order="_place")
    assert ids([a, a])[0] == ids([a, a])[1] and b[0] != b[1]


def test_named_columns_may_use_each_other_and_windows(spark):
    rows = mapped(
        spark, [("ann", "x", f"{MAY}", "view", "1"), ("ann", "x", None, "view", "1")],
        columns={"u": "upper(u)", "who": "concat(u, '!')", "filled": "last_value(t, true) OVER (PARTITION BY u ORDER BY _seq)"},
        user_id="who", time={"kind": "epoch_s", "expr": "filled"},
    )
    assert [(r.user_id, r.ts) for r in rows] == [("ANN!", rows[0].ts)] * 2


def test_one_row_may_hold_many_events(spark):
    time = {"kind": "order_only", "expr": "pos"}
    said = {"explode": "posexplode_outer(split(i, ' ')) AS (pos, one)", "item_id": "one", "order": "pos", "time": time,
            "event_type": "'view'"}
    rows = mapped(spark, [("ann", "x y x", None, "view", None), ("bob", None, None, "view", None)], **said)
    assert [(r.user_id, r.item_id, r.source_seq, r.reason) for r in rows] == [
        ("ann", "x", 0, None), ("ann", "y", 1, None), ("ann", "x", 2, None), ("bob", None, None, "no_item"),  # refused, not lost
    ]
    assert str(rows[2].event_date) == "1970-01-03"
    with pytest.raises(MappingError, match="_outer"):
        mapped(spark, [], **{**said, "explode": "posexplode(split(i, ' ')) AS (pos, one)"})
    with pytest.raises(MappingError, match="order of their own"):
        mapped(spark, [], **{**said, "order": None})


@pytest.mark.parametrize(("changes", "message"), [
    # the column was dropped upstream
    ({"user_id": "customer"}, r"log\.events\.user_id: `customer`.*the raw columns are u, i, t, e, v"),
    ({"value": "v +"}, r"log\.events\.value: `v \+`"),
    ({"where": [{"keep": "gone = 1", "reason": "x"}]}, r"log\.events\.where\.x"),
    ({"columns": {"a": "gone"}}, r"log\.events\.columns\.a"),
    ({"merge": {"price": "sum"}}, "price: merged can be user_id"),
])
def test_a_mapping_that_does_not_fit_names_its_key(spark, changes, message):
    with pytest.raises(MappingError, match=message):
        mapped(spark, [], **changes)
