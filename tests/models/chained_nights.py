"""Nights on which the next item follows from the one before: what order says, and popularity cannot know."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from local_replay import LocalReplay, question

from recs.clock import DAY, HOUR
from recs.judge.metrics import ndcg_of_hits

CUT = 20_000 * DAY
ITEMS, USERS = 60, 100
TRAIN = {"batch_size": 32, "lr": 0.01, "threads": 1, "precision": "fp32", "reader": "arrow"}      # petastorm takes seconds to import
NETWORK_ALONE = {"popular": False, "own": False}        # what a network says, and nothing else
QUICK = {"length": 16, "windows": 3, "epochs": 5, "network": {"dim": 32, "dropout": 0.1}, "train": TRAIN, **NETWORK_ALONE}
SUCCESSOR = np.roll(np.random.default_rng(3).permutation(ITEMS), 1)


def chains(seed: int = 0) -> pd.DataFrame:
    """Every user meets two or three items a day; the next is the fixed successor of the one before in nine of ten cases."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(USERS):
        item = int(rng.integers(ITEMS))
        for day in range(int(rng.integers(0, 15)), 25):
            for hour in range(int(rng.integers(2, 4))):
                rows.append((user, item, CUT - (24 - day) * DAY + (hour * 3 + 1) * HOUR))
                item = int(SUCCESSOR[item]) if rng.random() < 0.9 else int(rng.integers(ITEMS))
    return pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)


def chained_nights(folder: Path) -> LocalReplay:
    """Six nights, 0 the latest."""
    log, cuts = chains(), tuple(CUT - n * DAY for n in range(6))
    return LocalReplay({n: question(log, c, folder / f"cut-{n}", ()) for n, c in enumerate(cuts)}, cuts)


def ndcg(model, q) -> float:
    return float(ndcg_of_hits(q.hits(q.lists(model)), q.wanted).mean())
