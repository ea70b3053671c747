"""Histories as text: what is written, what a language model makes of it, and why it is crossed with the items."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chained_nights import CUT
from item_table_double import build
from test_sequence_text import themes
from torch import nn

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.models.sequence import WRITTEN
from recs.models.sequence_examples import Shape, known_examples, read_history
from recs.models.written import TEMPLATES, Template, clean, template_of, when, written
from recs.nn.zoo.lm_history import LMHistory, LMHistoryConfig

EN, ZH = TEMPLATES["en"], TEMPLATES["zh"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> ItemTables:
    found = build(tmp_path_factory.mktemp("tables"), themes(), CUT, ("text",))
    found.manifest["event_types"] = {"view": 1, "sniff": 2}
    return found


def histories() -> Histories:
    found = Histories.of(ann=[(7, CUT - 2 * DAY), (8, CUT - 3 * HOUR), (999, CUT - HOUR), (9, CUT - HOUR // 12)], bob=[])
    found.type_code[:] = [1, 2, 1, 1]
    return found


def test_a_history_is_written_newest_first_with_times(tables):
    request = np.full(2, CUT)
    assert written(histories(), request, tables, EN, 10) == [
        "just now viewed theme3 name9; 3 hours ago sniff theme2 name8; 2 days ago viewed theme1 name7",      # 999 nobody knows
        "nothing yet"]
    assert written(histories(), request, tables, ZH, 2) == ["刚才浏览了theme3 name9", "还没有"]
    later = written(histories(), request + 30 * DAY, tables, EN, 1)
    assert later[0] == "4 weeks ago viewed theme3 name9"


@pytest.mark.parametrize(("age", "said"), [
    (0, "just now"), (3_599, "just now"), (7_200, "2 hours ago"), (90_000, "yesterday"), (3 * 86_400, "3 days ago"),
    (20 * 86_400, "2 weeks ago"), (90 * 86_400, "3 months ago"), (9_999 * 86_400, "years ago"), (-5, "just now")])
def test_ages_in_words(age: float, said: str):
    assert when(EN, age) == said


def test_texts_are_cleaned_and_a_language_can_be_brought_along():
    assert clean(EN, "A mug, with the  handle!") == "mug handle" and clean(EN, "The") == "The"
    own = template_of({"event": "{item} ({when})", "ages": [[0, "neulich", 1]], "without": ["der"]})
    assert isinstance(own, Template) and when(own, 5) == "neulich" and clean(own, "der Hund") == "Hund"
    with pytest.raises(ValueError, match="no template 'xx': there are en, zh"):
        template_of("xx")


def made(head: str) -> tuple[LMHistory, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    net = LMHistory(30, LMHistoryConfig(head=head, read=8, dim=16, length=4)).eval()
    items = torch.tensor([[0, 0, 0, 5], [0, 0, 0, 9]], dtype=torch.int32)
    return net, {"h_item": items, "h_text": nn.functional.normalize(torch.randn(2, 8), dim=1).half()}


@pytest.mark.parametrize("head", ["logistic", "network"])
def test_two_histories_get_two_orders_which_a_plain_concatenation_cannot_give(head: str):
    net, batch = made(head)
    with torch.no_grad():
        net.item.weight.normal_()
        a, b = net.score(batch).argsort(dim=1)
        assert not torch.equal(a, b)
        concatenated = nn.Linear(8 + 16, 1)        # H on [F(X), item]
        items = net.item(torch.arange(1, 31))
        plain = torch.stack([concatenated(torch.cat([x.expand(30, 8), items], dim=1)).squeeze(1) for x in batch["h_text"].float()])
        assert torch.equal(*plain.argsort(dim=1))


def test_only_the_newest_position_is_asked():
    """The text is of the whole history: a position before its end would be told what it is asked."""
    net, batch = made("network")
    batch |= {"follow": torch.ones(2, 4, dtype=torch.uint8), "target": torch.tensor([[3, 0], [4, 7]])}
    cells, items = net._pairs(batch, 4)
    assert sorted(zip(cells.tolist(), items.tolist(), strict=True)) == [(3, 3), (7, 4), (7, 7)]


@pytest.mark.parametrize("loss", ["bce", "squares", "softmax"])
def test_it_learns_from_the_text_alone(loss: str, tmp_path: Path):
    torch.manual_seed(1)
    net = LMHistory(30, LMHistoryConfig(read=8, dim=16, length=4, loss=loss, dropout=0))
    text = torch.eye(8)[torch.arange(64) % 8].half()
    batch = {"h_item": torch.ones(64, 4, dtype=torch.int32), "h_len": torch.full((64,), 4), "h_text": text,
             "follow": torch.zeros(64, 4, dtype=torch.uint8), "target": (1 + torch.arange(64) % 8).unsqueeze(1)}
    step = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(60):
        step.zero_grad()
        net.loss(batch).backward()
        step.step()
    with torch.no_grad():
        assert (net.eval().score(batch).argmax(1) + 1 == batch["target"][:, 0]).float().mean() > 0.9


def test_where_histories_are_written_out_the_newest_events_are_asked_of_what_was_before_their_time(tmp_path: Path):
    log = pd.DataFrame({"user": 0, "item": [7, 1, 2, 2, 3], "ts": [10, 20, 30, 30, 40]})
    tables = build(tmp_path, log, 50)
    h = Histories.of(ann=list(zip(log.item, log.ts, strict=True)), bob=[(7, 15)])
    by_words = WRITTEN | {"asked": 4}
    found = known_examples(Shape(3, 9, 1, written=by_words), None, h, tables)
    lines = zip(found["h_item"].tolist(), found["target"][:, 0].tolist(), found["request_us"].tolist(), strict=True)
    assert list(lines) == [([1, 2, 2], 3, 40), ([-1, 7, 1], 2, 30), ([-1, 7, 1], 2, 30), ([-1, -1, 7], 1, 20)]
    assert found["window"].tolist() == [0, 1, 2, 3] and found["asked_us"].tolist() == [40] * 4 and len(set(found["who"])) == 1
    said = read_history(by_words, h.take(np.zeros(2, int)).before(np.array([40, 20])), np.array([40, 20]), tables)
    assert np.array_equal(found["h_text"][[0, 3]], said) and not np.array_equal(said[0], said[1])
    assert not len(known_examples(Shape(3, 9, 1, written=by_words), 10, h, tables)["who"])
