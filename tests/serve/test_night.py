"""From the tables of a night to a published, held, released or withdrawn one, on real Delta tables.  Every test has a list of its own."""
from __future__ import annotations

import os
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from night_world import add_batch, bring, config, events, night, write_static
from pyspark.sql import functions as F
from serve_world import contract_frame

from recs.clock import from_micros
from recs.config import AuditConfig
from recs.evidence.item_tables import ArtifactError
from recs.jobs import publish as publish_job
from recs.jobs import recommend as recommend_job
from recs.schemas import BLOCKS, NIGHTS, RECOMMENDATIONS
from recs.serve import nights
from recs.serve.audit import audit
from recs.serve.inputs import Inputs
from recs.serve.publish import PublishError, decide, hold, release, staged_rows
from recs.serve.staging import content, staged_table
from recs.tables import Lake, LeaseError, TableError, lease


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Nights 0 and 1 can be made: batch 1 holds what happened before night 1; sequences and tables stand at night 1."""
    folder = tmp_path_factory.mktemp("nights")
    lake = Lake(spark, folder / "lake")
    every = events()
    write_static(lake, every)
    return bring(lake, folder, every, 1)


def plan(world, name, day=1, **more):
    return nights.plan(world.lake, night(day), name, config_hash="c", code_version="v", **more)


def make(world, name, day=1, changed_only=False, refresh=False, **lists):
    """Plan and stage."""
    attempt = plan(world, name, day, refresh=refresh)
    return recommend_job.run(world.lake.spark, world.lake, config(name, **lists), attempt, changed_only=changed_only, **world.facts())[0]


def publish(world, attempt, **audit):
    settings = config(attempt.list_name).model_copy(update={"audit": AuditConfig(**audit)})
    return publish_job.run(world.lake.spark, world.lake, settings, attempt)


def published(world, name, day=1):
    rows = world.lake.read(RECOMMENDATIONS)
    return rows.where((F.col("run_date") == F.lit(night(day).run_date)) & (F.col("list_name") == name))


def decisions(world, name):
    return [(r["attempt"], r["decision"]) for r in nights.rows_of(world.lake, name)]


def test_a_night_is_published_whole_with_its_lineage(world):
    old, backfilled = (staged_table(night(1).run_date - timedelta(days=n), "whole", 1) for n in (15, 16))
    for table in (old, backfilled):
        world.lake.overwrite(contract_frame(world.lake.spark, table, []), table, {"attempt": 1})
    for file in Path(world.lake.path(old)).rglob("*"):
        os.utime(file, (time.time() - 15 * 86_400,) * 2)
    attempt = make(world, "whole")
    decision = publish(world, attempt)
    assert not world.lake.exists(old)       # staged rows stay for a fortnight …
    assert world.lake.exists(backfilled)    # … after they were written: another run is at work on that night
    assert decision.decision == "published", decision.line
    rows = published(world, "whole")
    assert content(rows) == decision.content == content(world.lake.read(attempt.table))
    per_audience = {r.audience: r.users for r in rows.groupBy("audience").agg(F.count_distinct("user_id").alias("users")).collect()}
    assert per_audience == {"user": 37, "segment": 3}       # 40 with events, less one opted out and two dormant; gold, lead and all
    assert rows.where("user_id = 'u37'").count() == 0       # opted out
    version, note = world.lake.commits(RECOMMENDATIONS, 1)[0]
    book = world.lake.read(NIGHTS).where("list_name = 'whole' AND decision = 'published'").collect()
    assert len(book) == 1
    assert book[0].delta_version == version
    for fact in ("content_hash", "model_version", "item_tables", "max_batch", "attempt", "n_rows", "config_hash", "code_version"):
        assert note[fact] == book[0][fact], fact
    assert (note["as_of_us"], note["serve_at_us"]) == (night(1).as_of_us, night(1).serve_at_us)
    instants = rows.select(F.unix_micros("scored_as_of"), F.unix_micros("serve_at")).distinct().collect()
    assert instants == [(night(1).as_of_us, night(1).serve_at_us)]


def test_a_rerun_takes_the_tuple_of_the_first_and_changes_nothing(world):
    first = publish(world, make(world, "again"))
    add_batch(world.lake, 2)    # arrived since: not for this attempt
    before = world.lake.version(RECOMMENDATIONS)
    later = plan(world, "again", 1)
    assert (later.max_batch, later.number, later.model_version) == (1, 1, "personal-2024-10-01-abc")
    second = publish(world, make(world, "again"))
    assert (second.content.hash, second.attempt) == (first.content.hash, 1)
    assert world.lake.version(RECOMMENDATIONS) == before
    fresh = make(world, "again", refresh=True)
    assert (fresh.number, fresh.max_batch) == (2, 2)
    assert publish(world, fresh).content.hash == first.content.hash     # batch 2 brought nothing from before the cut
    assert decisions(world, "again") == [(1, "started"), (1, "published"), (2, "started"), (2, "published")]


def test_a_rerun_with_another_configuration_is_refused_once_the_night_was_decided(world):
    plan(world, "other")
    other = nights.plan(world.lake, night(1), "other", config_hash="mended", code_version="v")     # the first try died of a bad one
    made, _ = recommend_job.run(world.lake.spark, world.lake, config("other"), other, **world.facts())
    publish(world, made)
    with pytest.raises(TableError, match="configuration mended, now it is c; .* --refresh"):
        plan(world, "other")
    assert plan(world, "other", refresh=True).number == 2


def test_a_failing_audit_holds_the_night_and_a_person_releases_it(world):
    attempt = make(world, "bad")
    staged = attempt.table
    rows = world.lake.read(staged)
    world.lake.overwrite(rows.where("user_id != 'u01'").localCheckpoint(), staged, world.lake.note(staged))      # u01 gets lost
    decision = publish(world, attempt)
    assert decision.decision == "held"
    assert decision.line == f"night {night(1).run_date} of list bad, attempt 1: held: users_without_list 1 (limit 0)"
    assert published(world, "bad").count() == 0
    with pytest.raises(PublishError, match="only a published night can be taken back"):
        hold(world.lake, night(1).run_date, "bad", "why not", "ann")
    freed = release(world.lake, night(1).run_date, "bad", "u01 left us", "ann")
    assert freed.is_published
    assert content(published(world, "bad")) == freed.content == decision.content
    with pytest.raises(PublishError, match="is published already"):
        release(world.lake, night(1).run_date, "bad", "again", "ann")
    last = nights.rows_of(world.lake, "bad")[-1]
    assert (last["decision"], last["decided_by"], last["reason"]) == ("released", "ann", "u01 left us")


def test_a_person_takes_a_night_back_and_a_rerun_does_not_overrule_him(world):
    first = publish(world, make(world, "back", day=1))
    # sequences stand at night 1: to the audit of night 2 the model looks frozen, and the top item is in every list
    assert publish(world, make(world, "back", day=2), max_identical_share=1, max_item_share=1).is_published
    taken = hold(world.lake, night(2).run_date, "back", "wrong prices", "bob")
    assert taken.decision == "withdrawn"
    assert published(world, "back", 2).count() == 0
    assert content(published(world, "back", 1)) == first.content        # yesterday is current again
    assert nights.standing(world.lake, "back")["run_date"] == night(1).run_date
    for _ in range(2):
        again = publish(world, plan(world, "back", 2))
        assert again.decision == "held"
        assert "withdrawn by bob (wrong prices)" in again.reason
    assert release(world.lake, night(2).run_date, "back", "prices were right", "bob").is_published
    assert content(published(world, "back", 2)) == taken.content


def test_a_decision_that_could_not_be_booked_is_booked_by_the_next_run(world, monkeypatch):
    def killed(point, spark):
        if point == "after_commit":
            raise KeyboardInterrupt

    attempt = make(world, "unbooked")
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr("recs.serve.publish.crash", killed)
        publish(world, attempt)
    assert decisions(world, "unbooked") == [(1, "started")]
    version = world.lake.version(RECOMMENDATIONS)
    assert publish(world, plan(world, "unbooked")).is_published
    assert decisions(world, "unbooked") == [(1, "started"), (1, "published")]
    assert nights.rows_of(world.lake, "unbooked")[-1]["delta_version"] == version == world.lake.version(RECOMMENDATIONS)


def test_who_decides_holds_the_lease(world):
    attempt = plan(world, "again")
    staged = world.lake.read(attempt.table)
    with lease(world.lake.root, "publish"), pytest.raises(LeaseError, match="another run holds the lease .*publish.json"):
        decide(world.lake, attempt, staged, content(staged), {})
    with pytest.raises(LeaseError), lease(world.lake.root, "publish"):
        hold(world.lake, night(1).run_date, "again", "why", "ann")
    assert not (Path(world.lake.root) / "_leases" / "publish.json").exists()


def test_rows_that_changed_after_the_audit_are_not_published(world):
    attempt = make(world, "swap")
    staged = staged_rows(world.lake, attempt)
    seen = content(staged)
    results = audit(staged, Inputs(world.lake, world.lake, config("swap"), attempt).against(personal=True), config().audit)
    other = staged.withColumn("score", F.col("score") + 1)
    decision = decide(world.lake, attempt, other, seen, results)
    assert decision.decision == "held"
    assert "the audit saw" in decision.reason
    assert decide(world.lake, attempt, staged.limit(0), content(staged.limit(0)), results).reason == "no rows are staged"


def test_nothing_staged_is_said_so(world):
    with pytest.raises(PublishError, match="nothing is staged"):
        publish(world, plan(world, "nothing"))
    with pytest.raises(PublishError, match="no attempt was ever decided"):
        release(world.lake, date(2031, 1, 1), "nothing", "why", "ann")


def test_wrong_model_or_tables_are_refused_before_anything_is_written(world):
    attempt = plan(world, "wrong")
    job = (world.lake.spark, world.lake, config("wrong"), attempt)
    with pytest.raises(ArtifactError, match=r"content hash is [0-9a-f]{12}…, expected 000000000000…"):
        recommend_job.run(*job, **world.facts(), model_hash="0" * 64)
    early = plan(world, "wrong_early", day=0)
    with pytest.raises(ArtifactError, match="after the night’s cut"):     # tables of night 1 know what night 0 must not
        recommend_job.run(*job[:3], early, **world.facts())
    other = attempt.made_with("1728000000000000-000000000000", "")
    with pytest.raises(ArtifactError, match="was made with item_tables 1728000000000000-000000000000, now it is"):
        recommend_job.run(*job[:3], other, **world.facts())
    assert not world.lake.exists(staged_table(attempt.night.run_date, "wrong", 1))


@pytest.mark.slow
def test_changed_only_scores_who_did_something_and_carries_the_others(world):
    lake = world.lake
    yesterday = publish(world, make(world, "carry", day=1))
    assert yesterday.is_published
    listed = {(r.user_id, r["rank"]): r.item_id for r in published(world, "carry", 1).where("audience = 'user'").collect()}
    victim = listed["u05", 2]
    lake.append(contract_frame(lake.spark, BLOCKS, [
        {"item_id": victim, "user_id": "u05", "blocked_from": from_micros(nights.now_us() - 1), "reason": "asked for it"},
    ]), BLOCKS, {})
    every = events()
    cut1, cut2 = night(1).as_of_us, night(2).as_of_us
    did_something = set(every.user_id[(every.ts >= cut1) & (every.ts < cut2)])
    quiet = sorted({u for u, _ in listed} - did_something)
    assert "u05" in quiet, quiet
    tomorrow = bring(lake, world.model.parent / "carry", every, 2)
    decision = publish(tomorrow, make(tomorrow, "carry", day=2, changed_only=True))
    assert decision.is_published, decision.line
    rows = published(world, "carry", 2).where("audience = 'user'")
    new = rows.select("user_id", "rank", "item_id", F.unix_micros("scored_as_of").alias("us")).collect()
    scored = {r.user_id: r.us for r in new}
    assert {u for u, us in scored.items() if us == cut2} == set(scored) - set(quiet)
    assert {u for u, us in scored.items() if us == cut1} == set(quiet)
    u05 = [r.item_id for r in sorted(new, key=lambda r: r["rank"]) if r.user_id == "u05"]
    assert u05 == [listed["u05", n] for n in (1, 3, 4, 5)]
    again = publish(tomorrow, make(tomorrow, "carry", day=2))      # run again without the flag: does what the first try did
    assert (again.attempt, again.content) == (1, decision.content)
