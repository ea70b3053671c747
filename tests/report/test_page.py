"""The page of a night says what the tables say, needs nothing from elsewhere, and is there after a hold and before any outcome."""
from __future__ import annotations

import json
import logging
import re
import shutil
from datetime import date, timedelta
from html import unescape
from pathlib import Path

import pytest
import tiny_warehouse
from page_text import Text
from tiny_warehouse import FIRST, HELD, LAST, append_without_spark, at

from recs.jobs import _pages, report
from recs.report.page import night
from recs.report.show import ShowError
from recs.schemas import BATCHES, ITEM_HOURS, ITEMS, MODELS, NIGHTS, PROMOTIONS, RECOMMENDATIONS
from recs.tables import TableError

BATCH = {
    "batch_id": 1, "log": "shop", "rows_in": 1_012, "rows_accepted": 1_000, "rows_quarantined": 3, "rows_duplicate": 9,
    "min_ts": at("2024-01-05 09:30"), "max_ts": at("2024-03-02 21:00"), "finished_at": at("2024-03-01 00:30"),
}
MODEL = {
    "model_version": "-", "name": "blend", "metrics": '{"ndcg@10": 0.4321, "lists": 67}', "status": "champion",
    "trained_through": at("2024-02-28 23:00"),
}
REIGN = {
    "decided_at": at("2024-03-01 01:30"), "model_version": "-", "decision": "promoted", "kind": "first", "before": "", "judged": "fit",
    "decided_by": "night", "reason": "the best of its fit", "evidence": "{}",
}
# events an hour of items before the cut of the last night, 2024-03-03 00:00: a quarter of the last week's is pots, before it was all
HOURS = (("pot", at("2024-02-10 12:00"), 30), ("pot", at("2024-02-29 12:00"), 6), ("lid", at("2024-03-01 12:00"), 16))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny warehouse, with a batch, a champion and some drift."""
    folder = tmp_path_factory.mktemp("page") / "warehouse"
    tiny_warehouse.write_without_spark(folder)
    for table, row in ((BATCHES, BATCH), (MODELS, MODEL), (PROMOTIONS, REIGN)):
        append_without_spark(folder, table, [row])
    append_without_spark(folder, ITEM_HOURS, [
        {"item_id": i, "hour": t, "n_events": n, "n_by_type": {"view": n}, "event_date": t.date()} for i, t, n in HOURS])
    return folder


def page(root: Path, run_date: date = LAST, **more) -> Text:
    path = night.write(root, "main", run_date, out=root / "pages" / "one.html", **more)
    return Text(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def last(root: Path) -> Text:
    return page(root)


def copied(root: Path, place: Path) -> Path:
    return Path(shutil.copytree(root, place / "copy"))


# ---- what each section says

def test_it_opens_with_the_figure_of_its_own_day_beside_popularity(root: Path, last: Text):
    first = page(root, FIRST).of("outcome")
    assert "What became of these lists" in first and "NDCG@10 on Friday 1 March 2024" in first
    assert "0.500" in first and "0.400 to 0.600" in first and "0.250, yesterday’s" in first and "+0.250 [+0.100, +0.400]" in first
    assert "in 20 % of all served lists" in first and "40 of 100 lists; 50 users did something" in first
    told = last.of("outcome")
    assert "0.750" in told and "so far : the day is not over" in told and "10 of 110 lists" in told
    assert "0.375 [0.130, 0.620]" in page(root, HELD).of("outcome")       # the mean of two days, with its band
    assert "older lists served again" in told


def test_it_says_what_ran_and_who_reigns(last: Text):
    said = last.of("ran")
    assert "2024-03-03 02:00 UTC held , audit: overlap is 0.01, limit 0.02" in said
    assert "2024-03-03 09:00 UTC released , eve: new catalogue" in said
    assert "everything before 2024-03-03 00:00 UTC, batches up to 1" in said and "made for 2024-03-03 07:00 UTC" in said
    assert "trained on what was known by 2024-02-28 23:00 UTC" in said and "ndcg@10 0.4321 · lists 67" in said
    assert "champion - (first by night, 2024-03-01): the best of its fit" in said
    assert "No run record of this night" in said


def test_rows_are_accounted_for(root: Path, last: Text):
    said = page(root, FIRST).of("rows")
    for part in ("1,012 rows read", "1,000 events", "3 quarantined", "9 duplicates, merged", "1 bad_time"):
        assert part in said
    assert "6 view" in said and "1 cart" in said and "1 purchase" in said       # the events that are there; the batch says 1,000
    assert "992 others, or erased since" in said and "Quarantined: 0.296 %" in said and "1 batch of log shop" in said
    assert "No row was read between the night before and this one" in last.of("rows")     # all nights of the cast know the same batch


def test_the_audit_is_there_with_what_failed_first(root: Path, tmp_path: Path, last: Text):
    assert "All 1 checks passed" in last.of("audit") and "ranks ✓" in last.of("audit")
    again = copied(root, tmp_path)
    audit = {"rows": {"ok": True, "value": 7, "limit": 1}, "overlap": {"ok": False, "value": 0.0123456, "limit": 0.02}}
    append_without_spark(again, NIGHTS, [{
        "run_date": date(2024, 3, 5), "list_name": "main", "decision": "held", "decided_by": "audit",
        "reason": "overlap 0.01235 (limit 0.02)", "audit": json.dumps(audit), "decided_at": at("2024-03-05 02:00"),
        "as_of": at("2024-03-05"), "serve_at": at("2024-03-05 07:00"),
    }])
    said = page(again, date(2024, 3, 5))
    told = said.of("audit")
    assert "1 of 2 checks failed" in told and told.index("overlap ✗ failed 0.01235 0.02") < told.index("rows ✓ 7 1")
    assert "This night was held: overlap 0.01235 (limit 0.02)" in said.of("outcome")


def test_quality_is_the_paired_difference_and_its_parts(root: Path):
    said = page(root, FIRST).of("quality")
    assert "By part of the lists, 2024-03-01" in said and "segment north=east 3 0.750" in said


def test_lists_are_counted_as_in_the_table(root: Path, last: Text):
    said = last.of("lists")
    # users' lists of the last night: mug, tea, lid, tea, pot; five items live
    assert "In users’ lists stand 4 of 5 items (80 %); the ten most listed take 100 % of all places" in said
    assert "5 places in 2 users’ lists" in said and "3 model" in said and "2 fallback" in said
    assert "The last 2 published nights up to 2024-03-03" in said
    assert "south 1 3 0 %" in said and "all 1 2 100 %" in said
    assert titles(root, LAST) >= {"3 Mar, fallback: 40 %", "1 Mar, fallback: 20 %", "3 Mar, lists: 2", "3 Mar, popular: 40 %"}


def titles(root: Path, run_date: date) -> set[str]:
    """Tooltips of the marks."""
    text = night.write(root, "main", run_date, out=root / "pages" / "one.html").read_text()
    return {unescape(t) for t in re.findall(r"<title>([^<]*)</title>", text)}


def test_drift_of_categories_and_items(last: Text):
    said = last.of("drift")
    # last week: tea, mug (28 Feb), pot 6, lid 16 = 24 events; before: pot 30
    assert "last seven days before the cut (24) against the 15 days before" in said
    assert "4 items, 3 of these for the first time in 22 days" in said
    assert "kitchen 100 % 95.8 % -4.2 60 %" in said and "drinks 0 % 4.17 % +4.2 40 %" in said
    assert "Items that rise before, a week last 7 days lid kitchen 0.0 16" in said
    assert "Tea pot kitchen 14.0 6" in said


def test_users_with_timelines_lists_and_reasons(root: Path, last: Text):
    said = last.of("people")
    assert "3 users, and why they see what they see" in said
    assert "ann · 6 events · own list · Asia/Shanghai" in said
    assert "Wed 28 Feb 13:00 bought Green tea" in said          # her own clock
    assert "Mug Because you bought Green tea on Wednesday afternoon" in said
    assert "bob · 1 event · no recent events: the list of everybody in 'all' · Europe/Rome" in page(root, zone="Europe/Rome").of("people")
    assert "cat · 1 event ·" in said and "Sencha Because many people choose it now (filled in)" in said
    assert "Mug 因为你" in page(root, language="zh").of("people")
    assert {"purchase Green tea, Wed 28 Feb 13:00", "view Tea pot, Fri 05 Jan 09:30"} <= titles(root, LAST)


# ---- whatever the tables lack

def test_no_outcome_is_said_plainly(root: Path, tmp_path: Path):
    again = copied(root, tmp_path)
    for table in ("outcomes", "metrics"):
        shutil.rmtree(again / table)
    said = page(again)
    assert "What became of these lists: not known yet" in said.of("outcome") and "from 2024-03-03 07:00 UTC on" in said.of("outcome")
    assert "No night has an outcome beside popularity yet" in said.of("quality")


def test_after_a_hold_the_lists_that_stay_are_shown(root: Path):
    said = page(root, HELD)
    assert "This night was held: fallback_share is 0.9, limit 0.5. The lists of Friday 1 March 2024 stay in use" in said.of("outcome")
    assert "Lists of Friday 1 March 2024, which stay in use" in said.of("people") and "bob · 1 event · own list" in said.of("people")
    assert "Tea pot" in said.of("people") and "Sencha" not in said.of("people")


def test_a_page_of_an_old_night_knows_nothing_later(root: Path):
    said = page(root, FIRST)
    assert "cat · 0 events" in said.of("people") and "did nothing before the cut" in said.of("people")     # she came two days later
    assert "no two stretches of events" not in said.of("drift") and "last seven days before the cut (8)" in said.of("drift")
    assert "Sencha" not in "".join(said.sections.values()) and "released" not in said.of("ran")
    assert "2024-03-03" not in said.of("lists") and "mean of seven days" in said.of("outcome") and "3 Mar" not in said.of("outcome")


def test_a_night_that_was_killed_and_one_before_any_list(root: Path, tmp_path: Path):
    newest = night.write(root, "main", out=tmp_path / "newest.html").read_text()
    assert "Begun and not decided" in newest and "Monday 4 March 2024" in newest
    again = copied(root, tmp_path)
    shutil.rmtree(again / "recommendations")
    said = page(again, HELD)
    assert "No list was published before it" in said.of("outcome") and "No list of this name was published" in said.of("people")
    assert "No night of this list was published so far" in said.of("lists")


def test_without_a_catalogue_items_go_by_their_ids(root: Path, tmp_path: Path):
    again = copied(root, tmp_path)
    shutil.rmtree(again / "items")
    said = page(again)
    assert re.search(r"item mug Because you bought .* on Wednesday afternoon", said.of("people"))
    assert "(no category)" in said.of("drift") and "lid" in said.of("drift")


def test_nothing_at_all_names_the_remedy(root: Path, tmp_path: Path):
    with pytest.raises(ShowError, match="no night 2023-01-01 of list 'main' was tried: run `recs night`"):
        night.write(root, "main", date(2023, 1, 1), out=tmp_path / "x.html")
    with pytest.raises(TableError, match="no tables under"):
        night.write(tmp_path, "main")
    with pytest.raises(TableError, match="--out"):
        night.path_of("s3://bucket/recs", "main", FIRST)


# ---- the file

def test_it_loads_nothing_and_runs_nothing(last: Text, root: Path):
    assert {u for u in last.loads if not u.startswith(("#", "data:,"))} == set()
    assert not {"script", "iframe", "img", "object", "embed"} & last.tags
    text = (root / "pages" / "one.html").read_text()
    assert not re.search(r"https?://|url\(|@import|\son\w+=", text)
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_words_of_the_log_stay_words(root: Path, tmp_path: Path):
    again, evil = copied(root, tmp_path), "<script>alert('1')</script>"
    append_without_spark(again, ITEMS, [{"item_id": "mug", "valid_from": at("2024-02-25"), "title": evil, "category": "<b>kitchen/x"}])
    append_without_spark(again, RECOMMENDATIONS, [
        tiny_warehouse.list_row((LAST, "main", "user", '"><img src=x>', 1, "mug", 1.0, "model", "<i>new", None, None))])
    said = page(again)
    assert not {"script", "img", "i", "b>"} & said.tags - {"i"} and "x" not in said.loads
    assert evil in said.of("people") and '"><img src=x>' in said.of("people")
    text = (again / "pages" / "one.html").read_text()
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text and "<i>new" not in text


def test_pages_have_their_place_and_are_found_again(root: Path, tmp_path: Path):
    again = copied(root, tmp_path)
    written = [night.write(again, "main", d) for d in (FIRST, LAST)] + [night.write(again, "mail", FIRST)]
    assert written[0] == again / "_reports" / "main-2024-03-01.html"
    assert night.pages(again, "main") == [FIRST, LAST] and night.pages(again, "mail") == [FIRST] and night.pages(root, "main") == []
    assert not list((again / "_reports").glob(".*"))        # no half a page is left
    old = {p: p.stat().st_mtime_ns for p in written}
    changed = _pages.renewed(str(again), "main", "UTC", [FIRST - timedelta(days=1), FIRST])
    assert changed == written[:2]       # its own day, and the newest page
    assert _pages.renewed(str(again), "main", "UTC", []) == []
    assert all((p.stat().st_mtime_ns > t) is (p in written[:2]) for p, t in old.items())


def test_a_page_that_fails_is_a_warning_without_ids(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def broken(*_args, **_more):
        raise RuntimeError("user ann")

    monkeypatch.setattr(night, "write", broken)
    with caplog.at_level(logging.WARNING):
        assert _pages.written(str(root), "main", "UTC", [LAST]) == []
    assert "no page of night 2024-03-03 (RuntimeError)" in caplog.text and "ann" not in caplog.text
    assert _pages.written("s3://bucket/recs", "main", "UTC", [LAST]) == []


def test_the_command_writes_where_it_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "some" / "night.html"
    assert report.main(["--root", str(root), "--run-date", str(FIRST), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"report: {out}\n" and "Friday 1 March 2024" in out.read_text()
    assert report.main(["--root", str(root), "--list", "nope"]) == 2 and "recs night" in capsys.readouterr().err


# ---- run records

def record(root: Path, job: str, started: str, steps: dict, **facts) -> None:
    body = {"job": job, "started_at": f"{started}+00:00", "code_version": "0.1.0", "seconds": 99.0, "steps": steps, **facts}
    (root / "_runs").mkdir(exist_ok=True)
    (root / "_runs" / f"{re.sub(r'[^0-9T]', '', started)}-{job}.json").write_text(json.dumps(body))


def test_the_stages_of_the_night_and_of_no_other(root: Path, tmp_path: Path):
    again = copied(root, tmp_path)
    which = {"run_date": str(LAST), "list_name": "main"}
    steps = {"publish": {"seconds": 61.0, "lists": 7}, "ingest": {"seconds": 2.5, "rows_in": 1_012, "reasons": {"bad_time": 1}}}
    record(again, "night", "2024-03-03T01:00:00.000000", steps, **which, decision="held")
    record(again, "night", "2024-03-03T01:30:00.000000", {"recommend": {"seconds": 5.0}}, **which | {"list_name": "mail"})
    record(again, "night", "2024-03-03T10:00:00.000000", {"start": {"seconds": 1.0}}, **which)     # begun after the last word
    said = page(again).of("ran")
    assert "ingest 2.5 s 1,012 rows in publish 1 min 01 s 7 lists" in said and "recommend" not in said and "start 1.0 s" not in said


def test_a_night_in_single_stages_is_put_together(root: Path, tmp_path: Path):
    again = copied(root, tmp_path)
    record(again, "ingest", "2024-03-03T00:10:00.000000", {"ingest": {"seconds": 3.0, "batch_id": 1}})
    record(again, "ingest", "2024-03-03T00:12:00.000000", {"ingest": {"seconds": 4.0, "batch_id": 2}})
    record(again, "sequences", "2024-03-03T00:20:00.000000", {"sequences": {"seconds": 7.0}}, as_of="2024-03-03T00:00:00+00:00")
    record(again, "item_hours", "2024-03-03T00:18:00.000000", {"item_hours": {"seconds": 8.0}}, as_of="2024-03-02T00:00:00+00:00")
    record(again, "publish", "2024-03-03T01:00:00.000000", {"publish": {"seconds": 9.0}}, run_date=str(LAST), list_name="main")
    said = page(again).of("ran")
    assert "ingest 3.0 s" in said and "sequences 7.0 s" in said and "publish 9.0 s" in said
    assert "item hours" not in said and "ingest 4.0 s" not in said and "4 min 57 s in all" in said
