"""When a model may become champion: the rules alone, without a lake."""
from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from recs.clock import Night
from recs.config import PromotionConfig, load
from recs.judge.bootstrap import Estimate
from recs.judge.promotion import Gains, first_champion, recipe_of, verdict, window

LIMITS = PromotionConfig(nights=4, min_nights=2, not_worse=0.01)
NIGHTS = [Night.of(date(2024, 3, 1) + timedelta(days=d)) for d in range(6)]
NAN = float("nan")


def model(version: str, trained: int, name: str = "blend", **metrics: float) -> dict:
    """Trained through the cut of night `trained`."""
    through = NIGHTS[0].as_of_us + trained * 86_400_000_000
    return {"model_version": version, "name": name, "trained_through_us": through, "metrics": json.dumps(metrics)}


def gains(champion: tuple, baseline: tuple | None = (0.2, 0.1, 0.3)) -> Gains:
    return Gains("ndcg@10", Estimate(*champion), None if baseline is None else Estimate(*baseline), 100)


@pytest.mark.parametrize(("kind", "found", "yes", "why"), [
    ("recipe", gains((0.02, 0.001, 0.04)), True, "better: ndcg@10 +0.0200 [+0.0010, +0.0400] against the champion, +0.2000"),
    ("recipe", gains((0.02, 0.0, 0.04)), False, "not better"),                          # at zero is not above it
    ("recipe", gains((0.02, -0.001, 0.04)), False, "not better"),
    ("recipe", gains((0.02, 0.001, 0.04), (0.01, -0.01, 0.03)), False, "against recent_popularity"),
    ("recipe", gains((0.02, 0.001, 0.04), None), True, "better"),                       # one of the two is recent popularity
    ("refit", gains((-0.002, -0.009, 0.004)), True, "not worse"),
    ("refit", gains((-0.002, -0.01, 0.004)), False, "may be worse"),                    # at -delta is not above it
    ("refit", gains((0.002, 0.001, 0.004), (-0.2, -0.3, -0.1)), True, "not worse"),     # the baseline is not asked of a refit
    ("refit", gains((NAN, NAN, NAN)), False, "may be worse"),
    ("recipe", gains((NAN, NAN, NAN)), False, "not better"),
    ("recipe", gains((0.02, 0.001, 0.04), (NAN, NAN, NAN)), False, "not better"),
])
def test_who_may_reign(kind: str, found: Gains, yes: bool, why: str):
    said, reason = verdict(kind, found, LIMITS)
    assert said is yes
    assert why in reason


def test_nights_after_both_judge_the_models_themselves():
    found = window(NIGHTS, model("old", 0), [model("new", 3)], True, LIMITS)
    assert ([n.run_date.day for n in found.nights], found.twins, found.judged) == ([4, 5, 6], frozenset(), "models")


def test_with_too_few_nights_after_both_a_twin_stands_in_for_who_knows_them():
    found = window(NIGHTS, model("old", 0), [model("new", 5)], True, LIMITS)
    assert ([n.run_date.day for n in found.nights], found.twins, found.judged) == ([3, 4, 5, 6], {"new"}, "recipes")
    both = window(NIGHTS, model("old", 4), [model("new", 5)], True, LIMITS)
    assert both.twins == {"old", "new"}


def test_a_champion_of_another_configuration_waits_for_its_own_nights():
    found = window(NIGHTS, model("old", 3), [model("new", 5)], False, LIMITS)
    assert ([n.run_date.day for n in found.nights], found.twins) == ([4, 5, 6], {"new"})
    none = window(NIGHTS, model("old", 5), [model("new", 5)], False, LIMITS)
    assert not none.nights
    assert "only 1 past nights after old, whose configuration is no longer here" in none.why_not


def test_a_short_log_gives_no_judgement():
    found = window(NIGHTS[:1], model("old", 0), [model("new", 1)], True, LIMITS)
    assert found.why_not == "only 1 past nights with what followed; 2 are needed"


def test_the_first_champion_is_the_contests_winner():
    figures = {"a": ("popularity", {"ndcg@10": 0.2}), "b": ("blend", {"ndcg@10": 0.3, "lists": 40}), "c": ("ease", {"ndcg@10": 0.3})}
    rows = [model(version, 1, name, **found) for version, (name, found) in figures.items()]
    row, why = first_champion(rows, "ndcg@10")
    assert row["model_version"] == "b"      # of equals the one named first
    best = "first night: blend has the best ndcg@10 on the nights the models were fitted on, 0.3000"
    assert why == f"{best} (40 lists; ease 0.3000, popularity 0.2000)"
    row, why = first_champion([model("a", 1), model("b", 1, "recent_popularity")], "ndcg@10")
    assert (row["model_version"], "no model has figures" in why) == ("b", True)


def test_a_recipe_is_the_model_and_what_it_is_made_from():
    config = load("default")
    same = config.model_copy(update={"audit": config.audit.model_copy(update={"min_overlap": 0.5})})
    often = config.model_copy(update={"fit": config.fit.model_copy(update={"every": timedelta(days=1)})})
    other = config.model_copy(update={"fit": config.fit.model_copy(update={"nights": 5})})
    mine = recipe_of("blend", config)
    assert mine.startswith("blend@")
    assert recipe_of("blend", same) == recipe_of("blend", often) == mine
    assert mine not in (recipe_of("blend", other), recipe_of("ease", config))
    held = config.model_copy(update={"parameters": {"ease": {"span": "7d"}}})
    assert recipe_of("blend", held) == mine and recipe_of("ease", held) != recipe_of("ease", config)
