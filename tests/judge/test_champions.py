"""The book of models: who reigns, one commit per change, the way back, two who decide at once, a run that dies half way."""
from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from recs.judge import champions
from recs.judge.champions import Decision, PromotionError, add_candidates, back, decide, decisions, models, reign, why
from recs.schemas import MODELS
from recs.tables import ConflictError, Lake, LeaseError


def model(version: str, through: int = 1, name: str = "blend") -> dict:
    plain = dict.fromkeys(("data_versions", "code_version", "config_hash", "content_hash", "path"), "-")
    return {
        "model_version": version, "name": name, "recipe": f"{name}@1", "trained_through_us": through, "params": "{}", "metrics": "{}",
        "status": "candidate", "created_at_us": through, **plain,
    }


def promoted(version: str, before: str, at_us: int, by: str = "eve", kind: str = "recipe") -> Decision:
    return Decision(version, "promoted", kind, before, by, f"{version} is better", at_us, "models", 3)


def statuses(lake: Lake) -> dict[str, str]:
    return {r["model_version"]: r["status"] for r in models(lake)}


@pytest.fixture(scope="module")
def reigned(spark, tmp_path_factory) -> Lake:
    """a, then b, then c reign; d was refused."""
    lake = Lake(spark, tmp_path_factory.mktemp("book"))
    add_candidates(lake, [model("a"), model("x", name="ease")])
    decide(lake, promoted("a", "", 10, kind="first"))
    add_candidates(lake, [model("b", 2)])
    decide(lake, promoted("b", "a", 20))
    add_candidates(lake, [model("c", 3), model("d", 3, "ease")])
    decide(lake, promoted("c", "b", 30))
    decide(lake, Decision("d", "refused", "recipe", "c", "promote", "not better", 40))
    return lake


def test_one_champion_reigns_and_the_book_says_why(reigned: Lake):
    # d is the newer ease: x makes way
    assert statuses(reigned) == {"a": "retired", "b": "retired", "c": "champion", "d": "candidate", "x": "retired"}
    assert reign(decisions(reigned)) == ["a", "b", "c"]
    assert champions.champion(reigned)["model_version"] == "c"
    assert champions.champion(reigned, 2)["model_version"] == "b"       # a past night: c knows too much
    assert champions.champion(reigned, 0) is None
    assert why(reigned) == "champion c (recipe by eve, 1970-01-01): c is better; since then refused: d"
    _, note = next((v, n) for v, n in reigned.commits(MODELS) if n.get("decision"))
    assert (note["model_version"], note["reason"], note["decided_by"]) == ("c", "c is better", "eve")


def test_a_model_fitted_again_from_the_same_data_stays_champion(reigned: Lake):
    add_candidates(reigned, [model("c", 3)])
    assert statuses(reigned)["c"] == "champion"


@pytest.mark.parametrize(("decision", "error", "words"), [
    (promoted("d", "b", 50), ConflictError, "d was held against b, but c is champion now"),
    (promoted("nothing", "c", 50), PromotionError, "no model nothing"),
    (promoted("c", "c", 50), PromotionError, "c is champion already"),
])
def test_what_cannot_be_decided(reigned: Lake, decision: Decision, error: type, words: str):
    before = reigned.version(MODELS)
    with pytest.raises(error, match=words):
        decide(reigned, decision)
    assert reigned.version(MODELS) == before


def test_going_back_and_back_again(spark, tmp_path):
    lake = Lake(spark, tmp_path)
    with pytest.raises(PromotionError, match="nobody was ever champion"):
        back(lake, "bob", "bad prices", 5)
    add_candidates(lake, [model("a"), model("b", 2, "ease"), model("c", 3, "als")])
    for n, (version, before) in enumerate([("a", ""), ("b", "a"), ("c", "b")]):
        decide(lake, promoted(version, before, 10 + n))
    decide(lake, back(lake, "bob", "bad prices", 20))
    assert statuses(lake) == {"a": "retired", "b": "champion", "c": "retired"}
    assert why(lake) == "champion b (rollback by bob, 1970-01-01): bad prices"
    decide(lake, back(lake, "bob", "worse still", 21))
    assert champions.champion(lake)["model_version"] == "a"     # not c again
    with pytest.raises(PromotionError, match="a is the only champion there was"):
        back(lake, "bob", "more", 22)
    decide(lake, promoted("c", "a", 30))
    assert reign(decisions(lake)) == ["a", "c"]


def race(lake: Lake, rivals: list[Decision], **how) -> list[object]:
    """What became of each: the decision, or the error."""
    ends: list[object] = [None] * len(rivals)
    begin = threading.Barrier(len(rivals))

    def one(n: int) -> None:
        begin.wait()
        try:
            ends[n] = decide(lake, rivals[n], **how)
        except (ConflictError, LeaseError) as e:
            ends[n] = e

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(rivals))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return ends


def test_of_two_promotions_at_once_one_wins(spark, tmp_path):
    lake = Lake(spark, tmp_path)
    add_candidates(lake, [model("a"), model("b", 2, "ease"), model("c", 3, "als")])
    decide(lake, promoted("a", "", 1))
    ends = race(lake, [promoted("b", "a", 10), promoted("c", "a", 10)], wait_s=120)
    won = [e for e in ends if isinstance(e, Decision)]
    lost = [e for e in ends if isinstance(e, ConflictError)]
    assert (len(won), len(lost)) == (1, 1)
    assert f"was held against a, but {won[0].model_version} is champion now (decided by eve): start again" in str(lost[0])
    assert sorted(statuses(lake).values()) == ["candidate", "champion", "retired"]
    assert [r["model_version"] for r in decisions(lake)] == ["a", won[0].model_version]


def test_without_a_lease_the_tables_version_decides(spark, tmp_path, monkeypatch):
    """A root that is a URL has no lease file.  Both have read the same version; the second finds it gone, though its rows do not clash."""
    lake = Lake(spark, tmp_path)
    add_candidates(lake, [model("a"), model("b", 2, "ease"), model("c", 3, "als")])

    @contextmanager
    def no_lease(*_args, **_how):
        yield

    monkeypatch.setattr(champions, "lease", no_lease)
    crown = champions._crown

    def overtaken(lake, version, rows, decision):
        """Between reading and writing of b, c is promoted."""
        monkeypatch.setattr(champions, "_crown", crown)
        decide(lake, promoted("c", "", 9))
        crown(lake, version, rows, decision)

    monkeypatch.setattr(champions, "_crown", overtaken)
    with pytest.raises(ConflictError, match="somebody else wrote after version"):
        decide(lake, promoted("b", "", 10))
    assert statuses(lake) == {"a": "candidate", "b": "candidate", "c": "champion"}
    assert [r["model_version"] for r in decisions(lake)] == ["c"]
    add_candidates(lake, [model("e", 4, "personal")])       # others may still write
    decide(lake, promoted("b", "c", 11))
    assert statuses(lake)["b"] == "champion"


def test_a_decision_that_could_not_be_written_down_is_written_by_the_next_run(spark, tmp_path, monkeypatch):
    lake = Lake(spark, tmp_path)
    add_candidates(lake, [model("a"), model("b", 2, "ease")])

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(champions, "_record", killed)
        decide(lake, promoted("a", "", 10))
    assert statuses(lake)["a"] == "champion"
    assert decisions(lake) == []
    assert why(lake).startswith("champion a (recipe by eve")        # asking repairs
    assert [r["model_version"] for r in decisions(lake)] == ["a"]
    decide(lake, promoted("b", "a", 20))
    assert reign(decisions(lake)) == ["a", "b"]
