"""Items that say something: one that nobody has met reaches the users it is for, by its text alone."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chained_nights import CUT, NETWORK_ALONE, TRAIN
from item_table_double import build, said_of
from local_replay import LocalReplay, question

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ArtifactError
from recs.models import MODELS, load, make
from recs.models.base import Setting
from recs.models.fitting import Fit
from recs.models.sequence import SequenceModel
from recs.nn.text import encode

NAMES = [name for name, cls in MODELS.items() if issubclass(cls, SequenceModel)]
NETWORK = {"dim": 32, "dropout": 0.1, "half_life": None}
QUICK = {"length": 16, "windows": 3, "epochs": 8, "network": NETWORK, "train": TRAIN, **NETWORK_ALONE}
ITEMS, THEMES, USERS = 60, 6, 120
NEW = (61, 62, 63)      # of themes 1, 2 and 3: in the catalogue, and met by nobody


def themes(seed: int = 0) -> pd.DataFrame:
    """Every user meets items of his own theme, in any order; the new items nobody has met."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(USERS):
        for day in range(int(rng.integers(0, 12)), 20):
            for hour in range(3):
                item = int(rng.integers(ITEMS // THEMES)) * THEMES + user % THEMES
                rows.append((user, item, CUT - (19 - day) * DAY + (hour * 3 + 1) * HOUR))
    return pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    folder, log, cuts = tmp_path_factory.mktemp("themes"), themes(), tuple(CUT - n * DAY for n in range(5))
    return LocalReplay({n: question(log, c, folder / f"cut-{n}", ("text",), unmet=NEW) for n, c in enumerate(cuts)}, cuts)


@pytest.fixture(scope="module", params=NAMES)
def fitted(request: pytest.FixtureRequest, nights: LocalReplay) -> tuple[str, Fit]:
    cls = MODELS[request.param]
    assert cls.needs(cls.grid(Setting(texts=True))[0]) == {"text"} and cls.needs(cls.grid(Setting())[0]) == frozenset()
    return request.param, cls.fit_with(Setting(texts=True), nights.only([1, 2, 3, 4]), dict(QUICK))


def places(model, q, item: int) -> np.ndarray:
    """[U] how many items are ahead of one for each user."""
    scores, column = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items), int(q.tables.columns(np.array([item]))[0])
    return (scores > scores[:, [column]]).sum(axis=1)


def test_an_item_that_came_after_training_reaches_the_users_of_its_theme(nights, fitted, tmp_path: Path):
    (name, fit), q = fitted, nights.questions[0]
    make(name, fit.params, fit.weights).save(tmp_path)
    model, popular = load(tmp_path), make("popularity")
    assert (fit.weights["number"][min(NEW) :] == 0).all()
    theme = np.array([int(u[1:]) % THEMES for u in q.histories.user_ids])
    for item in NEW:
        ahead = places(model, q, item)
        mine, others = ahead[theme == item % THEMES], ahead[theme != item % THEMES]
        assert np.median(mine) < 12                             # ten of the sixty-three items are of a theme
        assert (mine[:, None] < others).mean() > 0.7            # it stands higher with those it is for; by chance .5
        assert np.median(places(popular, q, item)) > 50                 # popularity puts it behind all others


def test_an_item_that_came_after_training_is_read_in_histories_too(nights, fitted):
    (name, fit), q = fitted, nights.questions[0]
    model, request = make(name, fit.params, fit.weights), np.full(1, CUT)
    met = Histories.of(ann=[(NEW[0], CUT - 2 * HOUR)])
    scores = model.scorer(met, request, q.tables)(0, q.tables.n_items)[0]
    index = np.asarray(q.tables.array("item_index"))
    same = index % THEMES == NEW[0] % THEMES
    assert np.median(scores[same]) > np.median(scores[~same])


def test_without_texts_it_is_as_unknown_as_before(nights, fitted):
    (name, fit), q = fitted, nights.questions[0]
    silent = dict(fit.weights)
    silent["network.item.said"] = np.zeros_like(silent["network.item.said"])
    model = make(name, fit.params, silent)
    tables = build(q.tables.path.parent / "silent", themes(), CUT, unmet=NEW)
    scores = model.scorer(q.histories, q.request_us, tables)(0, tables.n_items)
    columns = tables.columns(np.array(NEW))
    assert (scores[:, columns[0]] == scores[:, columns[1]]).all()       # nothing tells them apart


def test_texts_of_another_width_are_refused(nights, tmp_path: Path):
    q = nights.questions[0]
    fit = MODELS["lm_adapter"].fit_with(Setting(texts=True), nights.only([1, 2]), {**QUICK, "epochs": 1})
    tables = build(tmp_path, themes(), CUT, ("text",))
    np.save(tmp_path / "text.dense.npy", np.ones((tables.n_items, 7), np.float16))
    with pytest.raises(ArtifactError, match="texts of 7 numbers, the model learned from 256: train it again"):
        make("lm_adapter", fit.params, fit.weights).scorer(q.histories, q.request_us, tables)


def test_hashed_texts_are_alike_where_their_words_are():
    one, same, other, nothing = encode("hashed", [said_of(7), said_of(13), said_of(8), " - "])
    assert one @ same > one @ other + 0.2 and np.linalg.norm(one) == pytest.approx(1, abs=1e-5) and not nothing.any()
    again = encode("hashed", ["x", said_of(7)])[1]
    assert again.tobytes() == one.tobytes()
    assert encode("hashed", []).shape == (0, 256)
