"""Side information: what helps is learned, is the same where lists are made, and speaks for items that nobody has met."""
from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from chained_nights import CUT, NETWORK_ALONE, TRAIN
from item_table_double import build
from local_replay import LocalReplay, question

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories, segment_code
from recs.evidence.item_facts import codes_of
from recs.evidence.item_tables import ArtifactError
from recs.models import MODELS, load, make
from recs.models.base import Setting
from recs.models.examples import newest_events
from recs.models.fitting import Fit
from recs.models.insight import attention_of
from recs.models.sequence import SequenceModel
from recs.models.sequence_joined import joined
from recs.models.sequence_network import numbered
from recs.nn.events import log_value
from recs.nn.next_item import NextItem
from recs.nn.side import DROP, SideInfo
from recs.nn.zoo import network_class

GROUPS, ITEMS, USERS = 6, 600, 90
UNMET = tuple(range(ITEMS, ITEMS + GROUPS))     # one of each group
KINDS = ("facts", "text", "vectors")     # lm_history writes out what the texts say; nothing else reads them here
NETWORK = {"dim": 16, "dropout": 0.1, "half_life": None}
QUICK = {"length": 12, "windows": 3, "epochs": 6, "network": NETWORK, "train": TRAIN, **NETWORK_ALONE}
NAMES = [name for name, cls in MODELS.items() if issubclass(cls, SequenceModel)]
EDGES = [f"i{i:06d},i{j:06d}" for g in range(GROUPS) for i in range(g, ITEMS, GROUPS) for j in range(g, 5 * GROUPS, GROUPS) if i != j]


def facts(item: int) -> tuple[str, str, float]:
    """The group is the second level of the category, the brand and the price's octave."""
    g = item % GROUPS
    return f"all/group{g}/item{item}", f"brand{g}", 2.0 ** g


def vectors(item: int) -> dict[str, np.ndarray]:
    """An image shows the group; every fifth item has none."""
    image = np.eye(8)[item % GROUPS] + 0.1 * np.random.default_rng(item).standard_normal(8)
    return {} if item % 5 == 0 and item < ITEMS else {"image": image / np.linalg.norm(image)}


def many_items_of_few_groups() -> pd.DataFrame:
    """Every user meets items of his own group; each item is met by so few that what joins it to others must come from the catalogue."""
    rng, rows = np.random.default_rng(2), []
    for user in range(USERS):
        for day in range(int(rng.integers(2, 9)), 12):
            for hour in range(2):
                item = int(rng.integers(ITEMS // GROUPS)) * GROUPS + user % GROUPS
                rows.append((user, item, CUT - (11 - day) * DAY + (hour * 3 + 1) * HOUR))
    return pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    folder, log, cuts = tmp_path_factory.mktemp("side"), many_items_of_few_groups(), tuple(CUT - n * DAY for n in range(4))
    about: dict[str, Any] = {"facts": facts, "vectors": vectors, "unmet": UNMET}
    found = {n: question(log, c, folder / f"cut-{n}", KINDS, **about) for n, c in enumerate(cuts)}
    return LocalReplay({n: replace(q, histories=told(q.histories)) for n, q in found.items()}, cuts)


def told(histories: Histories) -> Histories:
    """Most events have a value, the item's price; most users a segment, that of their group."""
    value = np.where(histories.item % 7 == 0, np.nan, 2.0 ** (histories.item % GROUPS)).astype(np.float32)
    users = np.array([int(u[1:]) for u in histories.user_ids], np.int64)
    segment = np.where(users % 10 == 9, 0, [segment_code(f"segment{u % GROUPS}") for u in users])
    return replace(histories, value=value, segment=np.repeat(segment, np.diff(histories.offsets)).astype(np.int32))


def fitted(name: str, nights: LocalReplay, **given: Any) -> Fit:
    return MODELS[name].fit_with(Setting(), nights.only([1, 2, 3]), {**QUICK, **given})


def of_own_group(model, q) -> float:
    """Share of what is listed that belongs to the user's group; by chance a sixth."""
    item = np.asarray(q.tables.array("item_index"))[q.lists(model)]
    return float((item % GROUPS == np.array([int(u[1:]) % GROUPS for u in q.histories.user_ids])[:, None]).mean())


@pytest.fixture(scope="module")
def without(nights) -> float:
    fit = fitted("sasrec", nights)
    return of_own_group(make("sasrec", fit.params, fit.weights), nights.questions[0])


GIVEN = {
    "category": {"facts": ["category"]}, "brand": {"facts": ["brand"]}, "price": {"facts": ["price"]}, "image": {"vectors": ["image"]},
    "same category": {"near": ["category"]}, "same brand": {"near": ["brand"]}, "edges": {},
}


@pytest.mark.parametrize("what", GIVEN)
def test_what_helps_is_learned_and_travels(nights, without, what: str, tmp_path: Path):
    given = GIVEN[what]
    if what == "edges":
        (tmp_path / "edges.csv").write_text("\n".join([*EDGES, "i000001,nobody", ""]))
        given = {"near": [str(tmp_path / "edges.csv")]}
    fit, q = fitted("sasrec", nights, **given), nights.questions[0]
    make("sasrec", fit.params, fit.weights).save(tmp_path / "m")
    model = load(tmp_path / "m")
    if what == "edges":
        (tmp_path / "edges.csv").unlink()       # lists are made elsewhere
    assert of_own_group(model, q) > without + 0.1
    assert MODELS["sasrec"].needs(fit.params) == {"image": {"vectors"}, "edges": set()}.get(what, {"facts"})


@pytest.mark.parametrize("name", ["gru4rec", "interest_dynamics"])
def test_the_segment_is_learned_and_travels(nights, name: str, tmp_path: Path):
    """Users of one segment meet the items of one group; one in ten has none, and users of a segment that is new tonight are as these."""
    shares, q = [], nights.questions[0]
    for segments in (False, True):
        fit = fitted(name, nights, segments=segments)
        make(name, fit.params, fit.weights).save(tmp_path / f"{segments}")
        shares.append(of_own_group(load(tmp_path / f"{segments}"), q))
    assert shares[1] > shares[0] + 0.3
    model = load(tmp_path / "True")
    none, new = (replace(q.histories, segment=np.full_like(q.histories.segment, code)) for code in (0, segment_code("tonight")))
    scores = [model.scorer(h, q.request_us, q.tables)(0, q.tables.n_items) for h in (q.histories, none, new)]
    np.testing.assert_array_equal(scores[1], scores[2])
    moved = np.abs(scores[0] - scores[1]).max(axis=1) > 0
    np.testing.assert_array_equal(moved, np.array([int(u[1:]) % 10 != 9 for u in q.histories.user_ids]))


def test_attention_of_a_model_that_reads_segments(nights):
    fit, q = fitted("lstm_attention", nights, segments=True, epochs=1), nights.questions[0]
    found = attention_of(make("lstm_attention", fit.params, fit.weights), q.histories.users(0, 1), int(q.request_us[0]))
    np.testing.assert_allclose(found.share.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_item_that_nobody_has_met_reaches_the_users_of_its_group(nights, name: str):
    fit, q = fitted(name, nights, facts=["category", "brand"], vectors=["image"]), nights.questions[0]
    model = make(name, fit.params, fit.weights)
    scores, columns = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items), q.tables.columns(np.array(UNMET))
    assert (columns >= 0).all() and not np.asarray(q.tables.stat("users_all"))[columns].any()
    group = np.array([int(u[1:]) % GROUPS for u in q.histories.user_ids])
    ahead = (scores[:, :, None] > scores[:, None, columns]).sum(axis=1)     # [U, GROUPS] items ahead of each new one
    mine, others = ahead[np.arange(len(group)), group], ahead[np.arange(GROUPS) != group[:, None]]
    assert np.median(mine) < 0.35 * q.tables.n_items        # popularity puts it behind everything that was ever met
    assert (mine[:, None] < others).mean() > 0.75           # by chance .5


@pytest.mark.parametrize("name", NAMES)
def test_staged_and_served_histories_have_the_same_scores(nights, name: str):
    given = {"facts": ["category", "price"], "vectors": ["image"], "near": ["category"], "values": True, "segments": True, "epochs": 1}
    fit, q = fitted(name, nights, **given), nights.questions[0]
    model = make(name, fit.params, fit.weights)
    network = model._network(q.tables)
    newest = newest_events(q.histories, q.request_us, QUICK["length"], ("values", "segments"))
    events = numbered(newest, network.number, network.segments)
    if written := fit.params.get("written"):
        from recs.models.sequence_examples import read_history

        events["h_text"] = read_history(written, q.histories, q.request_us, q.tables)
    with torch.inference_mode():
        trained = network.net.score({n: torch.from_numpy(v) for n, v in events.items()}).numpy()
    asked = q.histories, q.request_us, q.tables
    served = model.scorer(*asked)(0, q.tables.n_items) - joined(model.params["chosen"], *asked)(0, q.tables.n_items)
    number = network.number[np.asarray(q.tables.array("item_index"))]
    assert (number > 0).all()
    np.testing.assert_allclose(served, trained[:, number - 1], rtol=1e-4, atol=1e-4)


def spent(n: int, seed: int) -> dict[str, torch.Tensor]:
    """Who spends much goes on with item 3, others with item 7: only the values tell, and some are missing."""
    rng, rich = np.random.default_rng(seed), torch.arange(n) % 2
    value = np.where(rng.random((n, 4)) < 0.3, np.nan, np.where(rich[:, None] > 0, 90, 3) * (0.8 + 0.4 * rng.random((n, 4))))
    value[:, -1] = np.where(np.isnan(value[:, -1]), np.where(rich > 0, 90, 3), value[:, -1])
    ts = torch.arange(4).repeat(n, 1) * HOUR
    return {
        "h_item": torch.from_numpy(rng.integers(1, 21, (n, 4))), "h_type": torch.ones(n, 4, dtype=torch.uint8), "h_ts": ts,
        "h_dwell": torch.zeros(n, 4), "h_value": torch.from_numpy(value.astype(np.float32)), "h_len": torch.full((n,), 4),
        "request_us": ts[:, -1] + HOUR, "follow": torch.zeros(n, 4, dtype=torch.uint8), "target": torch.where(rich > 0, 3, 7).unsqueeze(1)}


def reader_of_values(name: str) -> NextItem:
    torch.manual_seed(0)
    cls = network_class(name)
    net = cls(20, cls.Config(length=4, dim=16, dropout=0.0, values=True))
    net.prepare(spent(64, 0))
    return net


@pytest.mark.parametrize("name", ["lstm_attention", "transformer_lstm", "lm_adapter", "interest_dynamics"])
def test_what_events_were_worth_is_read_and_missing_is_not_nothing(name: str):
    net, b = reader_of_values(name).eval(), spent(6, 1)
    with torch.no_grad():
        net.event.no_value.normal_()
        plain = net.score(b)
        for other in (b["h_value"] * 3, torch.full_like(b["h_value"], math.nan), torch.zeros_like(b["h_value"])):
            scores = net.score(b | {"h_value": other})
            assert torch.isfinite(scores).all() and not torch.equal(scores, plain)
    scaled = net.event.scaled(log_value(spent(64, 0)["h_value"]).unsqueeze(-1))
    assert torch.nanmean(scaled).abs() < 1e-4 and torch.isfinite(net.train().loss(b))


def test_what_events_were_worth_is_learned():
    net, asked = reader_of_values("lm_adapter"), spent(64, 99)
    step = torch.optim.Adam(net.parameters(), 0.02)
    for n in range(60):
        step.zero_grad()
        net.train().loss(spent(64, n)).backward()
        step.step()
    with torch.no_grad():
        assert (net.eval().score(asked).argmax(1) + 1 == asked["target"][:, 0]).float().mean() > 0.9


def test_vectors_of_another_width_are_refused(nights, tmp_path: Path):
    fit, q = fitted("sasrec", nights, vectors=["image"], epochs=1), nights.questions[0]
    tables = build(tmp_path, many_items_of_few_groups(), CUT, ("vectors",), vectors=lambda i: {"image": np.ones(3)}, unmet=UNMET)
    with pytest.raises(ArtifactError, match="image vectors of 3 numbers, the model learned from 8: train it again"):
        make("sasrec", fit.params, fit.weights).scorer(q.histories, q.request_us, tables)


def test_a_modality_is_dropped_in_training_and_masked_where_it_is_missing():
    torch.manual_seed(0)
    side = SideInfo(3, 4, (), {"image": 5, "audio": 2}, 0)
    side.start()
    side.vectors_image[1:3] = torch.randn(2, 5)
    side.vectors_audio[2] = 1
    one = torch.tensor([1, 2, 3])
    own = torch.zeros(4, 4)
    assert side.known(one).tolist() == [True, True, False]
    whole = side.eval()(one, own)
    torch.testing.assert_close(whole[0], side.of_vectors["image"](side.vectors_image[1].float()))
    assert not whole[2].any()
    draws = torch.stack([side.train()(one, own) for _ in range(400)])
    gone = (draws[:, 0] == 0).all(1).float().mean()
    assert gone == pytest.approx(DROP, abs=0.08)        # alone it leaves nothing
    assert (draws[:, 1] == 0).all(1).float().mean() == pytest.approx(DROP**2, abs=0.05)


def test_codes_mean_the_same_in_every_night():
    one = codes_of("kitchen/pans/woks/small", "Norvik", 12.9)
    assert (one[:4] > 4096).all() and one[4] == codes_of(None, None, 13.0)[4] != codes_of(None, None, 26)[4]
    assert (one[:3] == codes_of("kitchen/pans/woks", None, None)[:3]).all() and one[0] == codes_of("kitchen", None, None)[0]
    assert codes_of(None, "", None).tolist() == codes_of("", None, float("nan")).tolist() == codes_of("/", None, -1.0).tolist() == [0] * 5
