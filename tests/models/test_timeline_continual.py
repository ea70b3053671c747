"""Ten nights in a row: a network that goes on from last night's weights keeps up with one trained from scratch every night."""
from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from local_replay import LocalReplay, question
from test_timeline import CUT, QUICK, USERS, ndcg, rhythmic_log

from recs.clock import DAY, HOUR
from recs.models import make
from recs.models.base import Setting
from recs.models.fitting import Fit
from recs.models.timeline import Timeline

NIGHTS, TRAINED_ON = 10, 8
SETTINGS = {**QUICK, "ranker": "network", "epochs": 6, "chosen": {"epochs": 6}, "train": {"precision": "fp32", "threads": 1},
            "warm_epochs": 1, "warm_nights": 3, "warm_older": 0.3}


def living_log() -> pd.DataFrame:
    """The rhythmic log, and every third day a new item that a third of the users meet for four days."""
    old, rng = rhythmic_log(), np.random.default_rng(5)
    fresh = [
        (int(user), 60 + day // 3, CUT - (50 - d) * DAY + int(rng.integers(0, 20)) * HOUR)
        for day in range(0, 60, 3) for d in range(day, min(day + 4, 60)) for user in rng.choice(USERS, USERS // 3, replace=False)
    ]
    return pd.concat([old, pd.DataFrame(fresh, columns=old.columns)]).sort_values(["user", "ts"], ignore_index=True)


def timed(fit, *args) -> tuple[Fit, float]:
    began = time.process_time()
    return fit(*args), time.process_time() - began


@pytest.mark.slow
def test_ten_nights_of_warm_starts_keep_up_with_training_from_scratch(tmp_path: Path):
    log, kinds = living_log(), tuple(sorted(Timeline.needs(Timeline.grid(Setting())[0])))
    cuts = tuple(CUT + (8 - n) * DAY for n in range(NIGHTS + TRAINED_ON))       # the latest first; the judged nights are the first ten
    asked = {n: question(log, c, tmp_path / f"cut-{n}", kinds) for n, c in enumerate(cuts)}
    replay = LocalReplay(asked, cuts, tmp_path / "kept", rows_per_file=15)
    rows, before = [], None
    for night in reversed(range(NIGHTS)):
        earlier = replay.only(range(night + 1, night + 1 + TRAINED_ON))
        Timeline.fit_with(Setting(), earlier, SETTINGS | {"ranker": "none"})    # writes the examples of both
        scratch, scratch_s = timed(Timeline.fit_with, Setting(), earlier, SETTINGS)
        warm, warm_s = timed(Timeline.fit_on, Setting(), earlier, SETTINGS, before) if before else (scratch, scratch_s)
        before = make("timeline", warm.params, warm.weights)
        found = [ndcg(m, replay.questions[night]) for m in (before, make("timeline", scratch.params, scratch.weights))]
        rows.append([*found, warm_s, scratch_s])
        print(f"night {NIGHTS - night}: warm {found[0]:.4f} in {warm_s:.1f} s, scratch {found[1]:.4f} in {scratch_s:.1f} s", flush=True)
    warm, scratch, warm_s, scratch_s = np.array(rows[1:]).T
    apart = warm - scratch
    low = apart.mean() - 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
    print(f"warm {warm.mean():.4f}, scratch {scratch.mean():.4f}, low {low:+.4f}, {warm_s.sum() / scratch_s.sum():.0%} of the CPU seconds")
    assert low > -0.015
    assert warm_s.sum() < 0.5 * scratch_s.sum()
