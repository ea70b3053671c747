"""Files -> events: what is read, in which order, what counts as a duplicate or as late, and what a crash leaves behind."""
from __future__ import annotations

import bz2
import gzip
import json
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from recs.config import Config, SourceFormat
from recs.etl import sources
from recs.etl.ingest import IngestError, LostRowsError, Tally, days_to_search
from recs.jobs import ingest
from recs.schemas import BATCHES, EVENTS, INPUT_FILES, ITEM_VOCABULARY, ITEMS, QUARANTINE, USERS
from recs.tables import Lake

NOW = datetime(2024, 6, 1, tzinfo=UTC)
PLAIN = {
    "source": {"format": "json", "schema_ddl": "u string, i string, t string, e string, v double"},
    "user_id": "u", "item_id": "i", "time": {"kind": "iso", "expr": "t"}, "event_type": "coalesce(e, 'view')",
    "event_types": {"view": {"code": 1}, "buy": {"code": 2}}, "value": "v",
}


def config(ingest: dict | None = None, items: dict | None = None, users: dict | None = None, **events) -> Config:
    log = {"name": "shop", "events": {**PLAIN, **events}, "items": items, "users": users}
    return Config(log=log, ingest={"max_quarantine_share": 1.0, **(ingest or {})})


def write(path: Path, rows: list[tuple | str]) -> str:
    """JSON lines of (user, item, time[, type, value]); text goes in as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, str) else json.dumps(dict(zip(("u", "i", "t", "e", "v"), r, strict=False))) for r in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def load(lake: Lake, given: Config, *paths: str, **flags) -> ingest.IngestResult:
    return ingest.run(lake.spark, lake, given, paths, **{"now": NOW, **flags})


def events(lake: Lake) -> list[tuple]:
    """(user, item, time) in the order every later stage uses, and the batch."""
    rows = lake.read(EVENTS).orderBy("user_id", "ts", "source_seq", "event_id")
    return [tuple(r) for r in rows.select("user_id", "item_id", F.col("ts").cast("string"), "batch_id").collect()]


def refused(lake: Lake) -> dict[str, str]:
    return {r.raw: r.reason for r in lake.read(QUARANTINE).collect()}


# ---- reading files ---------------------------------------------------------------------------------------------------

def raw_rows(spark, source: dict, *paths: str, base: int = 0) -> tuple[list, int]:
    form = SourceFormat(**source)
    with sources.fixed_splits(spark):
        raw = sources.read_raw(spark, sources.list_files(spark, paths, form), form, base)
        return raw.frame.orderBy("_seq").collect(), raw.n_rows


@pytest.mark.spark
def test_lines_keep_their_text_and_their_place(spark, tmp_path):
    csv = tmp_path / "in" / "a [1].csv"     # a name with glob characters is a name
    csv.parent.mkdir()
    csv.write_bytes(
        "\ufeffu,i,t\n"             # byte order mark and header
        'ann,"x, y",1\r\n'          # a comma inside quotes, Windows line end
        "\n"                        # blank: malformed
        "too few\n"
        "one,too,many,columns\n".encode()
        + b"caf\xe9,x,2\n"          # not UTF-8: malformed, bytes kept
        + b"end,x,3"                # no line end at the end of the file
    )
    rows, n = raw_rows(spark, {"format": "csv", "options": {"header": "true"}}, str(csv.parent), base=10)
    assert n == 6
    assert [(r.u, r.i, r._malformed, r._raw, r._place, r._seq) for r in rows if r.u in ("ann", "end")] == [
        ("ann", "x, y", False, 'ann,"x, y",1', 0, 10), ("end", "x", False, "end,x,3", 5, 15),
    ]
    assert [r._raw for r in rows if r._malformed] == ["", "too few", "one,too,many,columns", "caf\u00e9,x,2"]


@pytest.mark.spark
def test_json_lines_are_strict(spark, tmp_path):
    lines = [
        '{"u":"ann","t":9007199254740993}',     # 2^53 + 1
        '{"u":"ann","t":1',                     # cut off
        '{"u":"ann","t":1}{"u":"bob","t":2}',   # two on a line: the second would be lost
        '{"u":"ann","t":1} rest',
        '[{"u":"ann","t":1}]', '"text"', "null", "",
        '{"u":"ann","t":"soon"}',               # wrong type in one field
        '{"u":"ann","t":1.5}',
        '{"u":"ann","t":2,"new":"column"}',     # a column that upstream added is ignored
    ]
    source = {"format": "json", "schema_ddl": "u string, t bigint"}
    rows, n = raw_rows(spark, source, write(tmp_path / "a.json", lines))
    assert n == len(lines)
    assert [(r.u, r.t) for r in rows if not r._malformed] == [("ann", 9007199254740993), ("ann", 2)]
    assert [r._raw for r in rows if r._malformed] == lines[1:10]
    # without a schema everything is text
    rows, _ = raw_rows(spark, {"format": "json"}, str(tmp_path / "a.json"))
    assert [r.t for r in rows if not r._malformed] == ["9007199254740993", "soon", "1.5", "2"]


@pytest.mark.spark
def test_order_does_not_depend_on_how_files_are_cut_or_packed(spark, tmp_path):
    lines = [f"line {i}" for i in range(500)]
    whole = write(tmp_path / "whole.txt", lines)
    source = {"format": "text"}
    expected = [(line, i) for i, line in enumerate(lines)]
    assert [(r.value, r._seq) for r in raw_rows(spark, source, whole)[0]] == expected
    for size in ("700", "113"):     # 8 and 40 pieces
        spark.conf.set("spark.sql.files.maxPartitionBytes", size)
        try:
            assert [(r.value, r._seq) for r in raw_rows(spark, source, whole)[0]] == expected
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
    # the same lines in four files, each packed another way
    parts = tmp_path / "parts"
    write(parts / "0.txt", lines[:100])
    (parts / "1.txt.gz").write_bytes(gzip.compress(Path(write(tmp_path / "t1", lines[100:250])).read_bytes()))
    (parts / "2.txt.bz2").write_bytes(bz2.compress(Path(write(tmp_path / "t2", lines[250:400])).read_bytes()))
    with pa.CompressedOutputStream(str(parts / "3.txt.zst"), "zstd") as out:
        out.write(("\r\n".join(lines[400:]) + "\r\n").encode())
    rows, n = raw_rows(spark, source, str(parts))
    assert n == 500 and [(r.value, r._seq) for r in rows] == expected
    assert [r._place for r in rows if r._file.endswith("zst")] == list(range(100))


@pytest.mark.spark
def test_parquet_delta_and_records_over_several_lines(spark, tmp_path):
    spark.range(1000).selectExpr("id", "id * 9007199254740993 AS big").coalesce(1).write.parquet(str(tmp_path / "p"))
    rows, n = raw_rows(spark, {"format": "parquet"}, str(tmp_path / "p"), base=5)
    assert n == 1000 and [(r.id, r._seq) for r in rows] == [(i, i + 5) for i in range(1000)]
    assert rows[1]._raw.asDict() == {"id": 1, "big": 9007199254740993}

    delta, at = str(tmp_path / "d"), {"format": "delta"}
    spark.range(3).write.format("delta").save(delta)
    spark.range(3, 5).write.format("delta").mode("append").save(delta)
    assert sorted(r.id for r in raw_rows(spark, at, f"{delta}@v0")[0]) == [0, 1, 2]
    rows, n = raw_rows(spark, at, delta)
    assert n == 5 and len({r._place for r in rows}) == 5
    assert [f.path for f in sources.list_files(spark, [delta], SourceFormat(**at))] == [f"{delta}@v1"]

    (tmp_path / "m.csv").write_text('u,i\nann,"two\nlines"\nbob,x\nbad,1,2\n')
    rows, n = raw_rows(spark, {"format": "csv", "options": {"header": "true", "multiLine": "true"}}, str(tmp_path / "m.csv"))
    assert n == 3 and [(r.u, r.i, r._malformed) for r in rows] == [("ann", "two\nlines", False), ("bob", "x", False), ("bad", "1", True)]
    (tmp_path / "m.json").write_text('[{"u": "ann"},\n {"u":\n  "bob"}]')
    rows, n = raw_rows(spark, {"format": "json", "options": {"multiLine": "true"}}, str(tmp_path / "m.json"))
    assert n == 2 and [r.u for r in rows] == ["ann", "bob"]


@pytest.mark.spark
def test_input_that_cannot_be_read_is_named(spark, tmp_path):
    csv = {"format": "csv", "options": {"header": "true"}}
    with pytest.raises(sources.SourceError, match="nothing-here"):
        raw_rows(spark, csv, str(tmp_path / "nothing-here"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(sources.SourceError, match="no files there"):
        raw_rows(spark, csv, str(tmp_path / "empty"))
    with pytest.raises(sources.SourceError, match="not a Delta table"):
        raw_rows(spark, {"format": "delta"}, str(tmp_path / "empty"))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a.csv").write_text("u,i\nann,x\n")
    (tmp_path / "two" / "b.csv").write_text("i,u\nx,ann\n")     # swapped columns: read by position they would be wrong
    with pytest.raises(sources.SourceError, match=r"b\.csv: its header differs"):
        raw_rows(spark, csv, str(tmp_path / "two"))
    with pytest.raises(sources.SourceError, match="schema_ddl differ in i, item"):
        raw_rows(spark, {**csv, "schema_ddl": "u string, item string"}, str(tmp_path / "two" / "a.csv"))
    with pytest.raises(sources.SourceError, match="schema_ddl"):
        raw_rows(spark, {"format": "csv"}, str(tmp_path / "two" / "a.csv"))
    (tmp_path / "taken.csv").write_text("u,_seq\nann,1\n")
    with pytest.raises(sources.SourceError, match="_seq"):
        raw_rows(spark, csv, str(tmp_path / "taken.csv"))


# ---- one batch after another ---------------------------------------------------------------------------------------------

@pytest.mark.spark
def test_duplicates_late_rows_ties_and_rereads(lake, tmp_path):
    shop = config()
    day1 = write(tmp_path / "in" / "1.json", [
        ("ann", "x", "2024-05-20T10:00:00Z"),
        ("ann", "b", "2024-05-20T11:00:00Z"),           # a tie, in this order: b, a
        ("ann", "a", "2024-05-20T11:00:00Z"),
        (" ann ", "x", "2024-05-20T10:00:00Z", None, 7),    # the first row again, but for white space and value: merged, the first stays
        ("bob", "x", "2024-05-20T12:00:00+02:00"),
        ("bob", "x", "2025-01-01T00:00:00Z"),           # after --now
        '{"u":"ann"',
    ])
    first = load(lake, shop, day1)
    assert first.counts() == {
        "batch_id": 1, "new_files": 1, "rows_in": 7, "rows_accepted": 4, "rows_quarantined": 2, "rows_duplicate": 1,
        "reasons": {"in_future": 1, "malformed": 1}, "new_items": 3, "items_written": 3,
    }
    assert events(lake) == [
        ("ann", "x", "2024-05-20 10:00:00", 1), ("ann", "b", "2024-05-20 11:00:00", 1), ("ann", "a", "2024-05-20 11:00:00", 1),
        ("bob", "x", "2024-05-20 10:00:00", 1),
    ]
    assert refused(lake) == {'{"u":"ann"': "malformed", '{"u": "bob", "i": "x", "t": "2025-01-01T00:00:00Z"}': "in_future"}
    versions = {t.name: lake.version(t) for t in (EVENTS, QUARANTINE, ITEMS, ITEM_VOCABULARY, INPUT_FILES, BATCHES)}

    # a second run over the same files adds nothing, not even a batch
    again = load(lake, shop, day1)
    assert again.batch_id is None and {n: lake.version(t) for t in (EVENTS, QUARANTINE, ITEMS, ITEM_VOCABULARY, INPUT_FILES, BATCHES)
                                       for n in (t.name,)} == versions

    # the folder with a second file: only that one is read
    write(tmp_path / "in" / "2.json", [
        ("bob", "x", "2024-05-20T10:00:00Z"),       # known from batch 1, told in another zone
        ("ann", "z", "2024-05-20T11:00:00Z"),       # ties with batch 1: comes after it
        ("ann", "y", "2024-05-13T10:59:59Z"),       # a second older than the lookback of 7 days before the newest known event
        ("ann", "y", "2024-05-13T11:00:00Z"),       # exactly the lookback
    ])
    second = load(lake, shop, str(tmp_path / "in"))
    t = second.tally
    assert (second.batch_id, second.n_files, t.rows_in, t.accepted, t.quarantined, t.duplicate) == (2, 1, 4, 2, 1, 1)
    assert second.tally.reasons == {"too_late": 1}
    ties = [(item, batch) for user, item, ts, batch in events(lake) if ts == "2024-05-20 11:00:00"]
    assert ties == [("b", 1), ("a", 1), ("z", 2)]

    # the first file has grown: its old lines are duplicates, its refused ones are not kept twice, only the new one counts
    with Path(day1).open("a") as f:
        f.write('{"u":"cat","i":"x","t":"2024-05-20T13:00:00Z"}\n')
    third = load(lake, shop, str(tmp_path / "in"))
    assert (third.tally.rows_in, third.tally.accepted, third.tally.quarantined, third.tally.duplicate) == (8, 1, 0, 7)
    assert lake.read(QUARANTINE).count() == 3

    # a backfill may bring what is old
    old = write(tmp_path / "old.json", [("ann", "y", "2023-01-01T00:00:00Z")])
    assert load(lake, shop, old, backfill=True).tally.accepted == 1
    sums = lake.read(BATCHES).agg(F.sum("rows_in"), F.sum("rows_accepted"), F.sum("rows_quarantined")).first()
    assert tuple(sums) == (20, lake.read(EVENTS).count(), lake.read(QUARANTINE).count()) == (20, 8, 3)
    assert lake.read(EVENTS).select("event_id").distinct().count() == 8


@pytest.mark.spark
def test_old_lines_of_a_growing_file_are_known_not_late(lake, tmp_path):
    lines = [("ann", "x", "2024-05-01T10:00:00Z"), ("ann", "y", "2024-05-20T10:00:00Z")]
    log = write(tmp_path / "log.json", lines)
    load(lake, config(), log)
    write(tmp_path / "log.json", [*lines, ("ann", "z", "2024-05-21T10:00:00Z"), ("ann", "w", "2024-05-02T10:00:00Z")])
    tally = load(lake, config(), log).tally
    assert (tally.accepted, tally.duplicate, tally.reasons) == (1, 2, {"too_late": 1})      # w is late: nobody had seen it


@pytest.mark.spark
def test_repeated_lines_are_merged_as_the_mapping_says(lake, tmp_path):
    merging = config(merge_keys=["u", "e"], merge={"ts": "min", "value": "sum", "item_id": "last", "event_type": "max"})
    path = write(tmp_path / "a.json", [
        ("ann", "x", "2024-05-20T10:00:00Z", "view", 0.1),
        ("ann", "y", "2024-05-19T10:00:00Z", "view", 0.2),      # the same key: earlier, so its time counts; last, so its item does
        ("ann", "z", "2024-05-20T10:00:00Z", "buy", 0.3),       # another key
    ])
    tally = load(lake, merging, path).tally
    assert (tally.accepted, tally.duplicate) == (2, 1)
    rows = lake.read(EVENTS).orderBy("ts").select("item_id", F.col("ts").cast("string"), "value", "event_type", "type_code", "source_seq",
                                                  F.col("event_date").cast("string")).collect()
    assert tuple(rows[0]) == ("y", "2024-05-19 10:00:00", pytest.approx(0.3), "view", 1, 0, "2024-05-19")
    # later a line of a known key comes with another time: a duplicate all the same
    again = write(tmp_path / "b.json", [("ann", "x", "2024-05-16T10:00:00Z", "view", 9.0)])
    assert load(lake, merging, again).tally.duplicate == 1


@pytest.mark.spark
def test_a_batch_that_is_mostly_refused_is_not_written(lake, tmp_path):
    strict = config({"max_quarantine_share": 0.5})
    path = write(tmp_path / "a.json", [("ann", "x", "2024-05-20"), "rubbish", ("ann", None, "2024-05-20"), ("", "x", "2024-05-20"), "more"])
    with pytest.raises(IngestError, match=r"4 of 5 rows would be refused.* = 0\.5 allows: malformed 2, no_item 1, no_user 1; correct"):
        load(lake, strict, path)
    assert lake.read(BATCHES).isEmpty() and lake.read(INPUT_FILES).isEmpty() and lake.read(QUARANTINE).isEmpty()
    assert load(lake, config({"max_quarantine_share": 0.8}), path).tally.accepted == 1      # exactly the limit


@pytest.mark.spark
def test_an_expression_that_fails_on_a_value_is_the_mappings_fault(lake, tmp_path):
    path = write(tmp_path / "a.json", [("secret-user", "x", "2024-05-20")])
    with pytest.raises(ValueError, match=r"mapping shop: .*CAST_INVALID_INPUT.*try_cast") as e:
        load(lake, config(value="cast(u AS double)"), path)
    assert "secret-user" not in str(e.value)


def test_lost_rows_are_found():
    Tally(rows_in=6, accepted=3, quarantined=2, duplicate=1).check()
    with pytest.raises(LostRowsError, match="7 rows in, but 3 accepted"):
        Tally(rows_in=7, accepted=3, quarantined=2, duplicate=1).check()
    # refused rows that the quarantine has already are duplicates
    assert Tally(rows_in=6, accepted=3, quarantined=3).with_quarantined(1) == Tally(rows_in=6, accepted=3, quarantined=1, duplicate=2)


def test_days_searched_for_known_events():
    from datetime import date, timedelta

    day, week = [date(2024, 5, 20)], timedelta(days=2)
    assert days_to_search(day, config().log.events, week) == day
    found = days_to_search(day, config(merge_keys=["u"]).log.events, week)
    assert (found[0], found[-1], len(found)) == (date(2024, 5, 18), date(2024, 5, 22), 5)


# ---- runs that die, runs at the same time ---------------------------------------------------------------------------------

class Dying(Lake):
    """A lake whose process dies at the n-th write: before it reaches the table, or right after."""

    def __init__(self, spark, root, n: int, after: bool) -> None:
        super().__init__(spark, root)
        self.left, self.after = n, after

    def append(self, df, table, note):
        self._strike(lambda: Lake.append(self, df, table, note))

    def merge(self, changes, table, note):
        self._strike(lambda: Lake.merge(self, changes, table, note))

    def _strike(self, work) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KeyboardInterrupt
        work()
        if self.left == 0:
            raise KeyboardInterrupt


ITEM_TABLE = {"source": {"format": "csv", "options": {"header": "true"}}, "columns": {"item_id": "id", "title": "title"}}


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("n", range(1, 7))
def test_a_run_that_dies_leaves_no_trace(spark, tmp_path, n, after):
    shop = config(items=ITEM_TABLE)
    titles, changed = tmp_path / "1.csv", tmp_path / "2.csv"
    titles.write_text("id,title\nx,Old\n")
    changed.write_text("id,title\nx,New\nw,Only in the table\n")
    day1 = write(tmp_path / "1.json", [("ann", "x", "2024-05-20T10:00:00Z")])
    day2 = write(tmp_path / "2.json", [("ann", "y", "2024-05-21T10:00:00Z"), "rubbish"])

    def state(lake):
        return {t.name: sorted(map(str, lake.read(t).drop("finished_at").collect())) for t in
                (EVENTS, QUARANTINE, ITEMS, ITEM_VOCABULARY, INPUT_FILES, BATCHES)}

    calm = Lake(spark, tmp_path / "calm")
    struck = Dying(spark, tmp_path / "struck", n, after)
    for lake in (calm, Lake(spark, struck.root)):
        load(lake, shop, day1, items=[str(titles)])
    load(calm, shop, day2, items=[str(changed)], now=datetime(2024, 6, 2, tzinfo=UTC))
    with pytest.raises(KeyboardInterrupt):
        load(struck, shop, day2, items=[str(changed)], now=datetime(2024, 6, 2, tzinfo=UTC))
    retry = load(Lake(spark, struck.root), shop, day2, items=[str(changed)], now=datetime(2024, 6, 2, tzinfo=UTC))
    assert state(Lake(spark, struck.root)) == state(calm)
    whole = n == 6 and after            # the sixth write is `batches`: the run was complete
    assert retry.took_back == (not whole and (n, after) != (1, False))


@pytest.mark.spark
@pytest.mark.slow
def test_leftovers_of_a_dead_run_go_even_when_its_files_do_not_come_again(spark, lake, tmp_path):
    load(lake, config(), write(tmp_path / "1.json", [("ann", "x", "2024-05-20T10:00:00Z")]))
    with pytest.raises(KeyboardInterrupt):      # files, item rows, vocabulary and events are written; quarantine and batch are not
        load(Dying(spark, lake.root, 4, True), config(), write(tmp_path / "2.json", [("ann", "y", "2024-05-21T10:00:00Z")]))
    assert len(events(lake)) == 2
    result = load(lake, config(), write(tmp_path / "3.json", [("ann", "z", "2024-05-22T10:00:00Z")]))
    assert result.took_back and result.batch_id == 2
    assert [(item, batch) for _, item, _, batch in events(lake)] == [("x", 1), ("z", 2)]
    assert sorted((r.item_id, r.item_index) for r in lake.read(ITEM_VOCABULARY).collect()) == [("x", 0), ("z", 1)]
    assert {r.item_id for r in lake.read(ITEMS).collect()} == {"x", "z"}


def _ingest_command(root: str, settings: str, path: str) -> None:
    """Runs in a process of its own; the exit code is the command's."""
    raise SystemExit(ingest.main(["--config", settings, "--root", root, "--input", path]))


def test_two_runs_at_once(tmp_path, capfd):
    """The second gets a clear line and exit code 4 before it starts Spark: nobody hands out a vocabulary integer twice."""
    import yaml

    from recs.tables import lease

    settings = tmp_path / "my.yaml"
    settings.write_text(yaml.safe_dump({"log": {"name": "shop", "events": PLAIN}}))
    path = write(tmp_path / "1.json", [("ann", "x", "2024-05-20T10:00:00Z")])
    with lease(tmp_path / "lake"):
        process = multiprocessing.get_context("fork").Process(target=_ingest_command, args=(str(tmp_path / "lake"), str(settings), path))
        process.start()
        process.join(60)
    assert process.exitcode == 4
    assert "another run holds the lease" in capfd.readouterr().err


# ---- items and users ---------------------------------------------------------------------------------------------------

@pytest.mark.spark
def test_items_and_users_with_tables_of_their_own(lake, tmp_path):
    users = {"source": {"format": "csv", "options": {"header": "true"}}, "columns": {"user_id": "id", "zone": "zone", "opt_out": "out"}}
    shop = config(items=ITEM_TABLE, users=users)
    day = write(tmp_path / "1.json", [("ann", "x", "2024-05-20T10:00:00Z"), ("ann", "n", "2024-05-20T09:00:00Z")])
    titles, people = tmp_path / "items.csv", tmp_path / "users.csv"
    titles.write_text("id,title\n x ,Chair\nnew,Never bought\n,no id\ntoo,many,columns\n")
    people.write_text("id,zone,out\nann,Europe/Amsterdam,\nbob,Mars/Olympus,true\ncat,,do not track\n")
    result = load(lake, shop, day, items=[str(titles)], users=[str(people)])
    assert result.table_rows == {"items": 3, "users": 3}
    # items of events come first, in the order of their first event; then those that only the catalogue knows
    assert {r.item_id: r.item_index for r in lake.read(ITEM_VOCABULARY).collect()} == {"n": 0, "x": 1, "new": 2}
    assert {r.item_id: r.title for r in lake.read(ITEMS).collect()} == {"x": "Chair", "new": "Never bought", "n": None}
    assert {r.user_id: (r.zone, r.opt_out) for r in lake.read(USERS).collect()} == {
        "ann": ("Europe/Amsterdam", False), "bob": (None, True), "cat": (None, True),      # what cannot be read counts as opted out
    }
    assert refused(lake) == {",no id": "items_no_id", "too,many,columns": "items_malformed"}
    assert result.tally.rows_in == 2                    # the batch counts events
    with pytest.raises(ValueError, match="says nothing about items"):
        load(lake, config(), day, items=[str(titles)])
    # a table alone is a batch too
    titles.write_text("id,title\nx,Armchair\n")
    result = load(lake, shop, day, items=[str(titles)], now=datetime(2024, 6, 2, tzinfo=UTC))
    assert (result.batch_id, result.tally.rows_in, result.table_rows) == (2, 0, {"items": 2})
    rows = lake.read(ITEMS).where("item_id = 'x'").orderBy("valid_from")
    shown = rows.selectExpr("title", "CAST(valid_from AS string)", "CAST(valid_to AS string)", "batch_id")
    assert [tuple(r) for r in shown.collect()] == [
        ("Chair", "1970-01-01 00:00:00", "2024-06-02 00:00:00", 1), ("Armchair", "2024-06-02 00:00:00", None, 2),
    ]
