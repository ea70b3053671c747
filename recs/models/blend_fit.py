"""Weights of the blend, fitted on earlier nights.

    lists       every (user, earlier night) with something to hit
    pool        per list the best `POOL` items of every component: their f, and which of them were hits
    likely      the weights under which the hits are most likely (softmax over a list's candidates): smooth, so little of it is chance
    search      start from these or from the best of a few plain mixtures; in each round try to drop, halve, double or add every
                component and take the change (or the two, four, eight best changes together) that gains most NDCG

A change must gain more than chance gives (`worth`), and a component that gains less is dropped: few components carry over to
the next night better than many.
Everything over users happens where the lists lie (recs/judge/replay.py); the search itself sees one mean per mixture.

Shapes: L lists, C candidates of one list, F components, P mixtures.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import nnls

from recs.judge.metrics import discounts

from .base import Setting
from .blend import voices
from .fitting import Fit, Question, Replay

POOL = 40           # candidates per component: 15 components make about 300
RIDGE = 3.0         # of the likelihood, in lists: a few hundred lists outvote it
CHANCE = 0.02
ROUNDS, NEWTON_STEPS = 8, 15
Weights = dict[str, float]
MeanNdcg = Callable[[list[Weights]], np.ndarray]    # P mixtures -> [P]


def components(setting: Setting) -> tuple[str, ...]:
    """Names of the components worth trying on such a log."""
    ease = 0 < setting.n_items <= setting.ease_max_items
    close = "ease_near:300" if ease else "cooc"
    if not setting.clock:   # positions are no instants: no windows, no age, nothing recent
        own = ("own@all", "own@10e", "own@3e") if setting.repeats else ()
        return ("popular@users_all", *own, f"{close}@all", f"{close}@10e", f"{close}@2e", "transitions@2e", "transitions@10e")
    own = ("own@all", "own@30d", "own@90d", "own@7d", "own@7a") if setting.repeats else ()
    popular = [f"popular@{s}" for s in ("decay_6h", "decay_12h", "decay_1d", "decay_3d", "decay_10d", "decay_30d", "users_all")]
    return (
        *popular, "new", *own, f"{close}@all", f"{close}@14d", f"{close}@0.1d", "adopters@all", "transitions@2e", "transitions@0.05d",
        "follows:4:3@0.5e",
    )


# weight per source; `popular` and `own` are shared out over their components
_STARTS = (
    {"popular": 0.5, "new": 0.5, "own": 2.0, "near": 0.5, "adopters": 0.5, "transitions": 0.2},
    {"popular": 1.0, "new": 1.0, "own": 1.0, "near": 1.0, "adopters": 1.0, "transitions": 1.0},
    {"popular": 0.1, "new": 0.0, "own": 3.0, "near": 0.2, "adopters": 0.0, "transitions": 0.1},
    {"popular": 1.0, "new": 3.0, "own": 0.5, "near": 1.0, "adopters": 1.0, "transitions": 0.1},
    {"popular": 0.1, "new": 0.1, "own": 1.0, "near": 2.0, "adopters": 0.5, "transitions": 1.0},
)


def starts(setting: Setting) -> list[Weights]:
    """Plain mixtures to start from: all alike, own items first, what is new, neighbours."""
    def source(name: str) -> str:
        first = name.partition("@")[0].partition(":")[0]
        return {"ease_near": "near", "cooc": "near", "follows": "transitions"}.get(first, first)

    return [{name: start[source(name)] for name in components(setting) if start[source(name)]} for start in _STARTS]


def pool(names: list[str], question: Question) -> dict[str, np.ndarray]:
    """The candidates of a question, padded: f [L, C, F] float32, hit and there [L, C] bool, and `wanted` [L]."""
    tables, n = question.tables, len(question.histories)
    said = voices(names, question.histories, question.request_us, tables)
    not_allowed, chosen = question.forbidden(0, tables.n_items), np.zeros((n, tables.n_items), bool)
    rows = np.arange(n)[:, None]
    for name in said.names:
        values = np.where(not_allowed, 0, said.everywhere(name, n))
        best = np.argpartition(-values, min(POOL, tables.n_items - 1), axis=1)[:, :POOL]
        chosen[rows, best] |= values[rows, best] > 0
    columns = np.argsort(~chosen, axis=1, kind="stable")[:, : int(chosen.sum(axis=1).max(initial=1))]   # chosen ones first, by item id
    there = chosen[rows, columns]
    nothing = np.zeros(columns.shape, np.float32)
    f = np.stack([said.at(name, columns) if name in said.names else nothing for name in names], axis=-1).astype(np.float32)
    return {"f": f, "hit": question.hits(columns) & there, "there": there, "wanted": question.wanted}


def ndcg_sums(mixtures: np.ndarray, k: int, lists: dict[str, np.ndarray]) -> np.ndarray:
    """[P] sum over the lists of NDCG@k under each of the mixtures [P, F]; ties go to the lower column, as in the lists."""
    row, place = np.nonzero(lists["hit"])
    ideal = np.cumsum(discounts(k))[np.minimum(lists["wanted"], k) - 1]
    earlier = np.arange(lists["f"].shape[1]) < place[:, None]
    out = np.zeros(len(mixtures))
    for p, weights in enumerate(mixtures.astype(np.float32)):
        score = np.where(lists["there"], lists["f"] @ weights, -np.inf)
        others, mine = score[row], score[row, place][:, None]
        rank = ((others > mine) | ((others == mine) & earlier)).sum(axis=1)     # only the hits need one
        out[p] = np.where(rank < k, 1 / np.log2(rank + 2) / ideal[row], 0.0).sum()
    return out


def likelihood_sums(weights: np.ndarray, lists: dict[str, np.ndarray]) -> np.ndarray:
    """[1 + F + F F] sums over the lists with a hit: -log likelihood at the weights [F], its gradient and its Hessian, one after another.

    The likelihood of a list is the mean over its hits of the softmax of the scores over its candidates (ListNet with equal shares,
    Cao et al., ICML 2007); its negative logarithm is convex in the weights.
    """
    has = lists["hit"].any(axis=1)
    f, hit = lists["f"][has].astype(np.float64), lists["hit"][has]
    score = np.where(lists["there"][has], f @ weights, -np.inf)
    score -= score.max(axis=1, keepdims=True, initial=0)
    share = np.exp(score)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    aim = hit / hit.sum(axis=1, keepdims=True)
    loss = -(np.where(hit, score - np.log(total), 0) * aim).sum()
    mean = np.einsum("lc,lcf->lf", share, f)
    gradient = mean.sum(axis=0) - np.einsum("lc,lcf->f", aim, f)
    weighted = (f * np.sqrt(share)[:, :, None]).reshape(-1, f.shape[2])
    return np.concatenate([[loss], gradient, (weighted.T @ weighted - mean.T @ mean).ravel()])


def most_likely(n_components: int, mean_likelihood: Callable[[np.ndarray], np.ndarray], n_lists: int) -> np.ndarray:
    """[F] weights of 0 or more with the greatest likelihood less a ridge: Newton steps, each solved as non-negative least squares."""
    size, ridge = n_components, RIDGE / n_lists
    weights, best, step = np.zeros(size), None, np.ones(size)
    for _ in range(NEWTON_STEPS):
        tried = weights + step
        found = mean_likelihood(tried)
        loss = found[0] + ridge * tried @ tried / 2
        if best is not None and loss > best[0] - 1e-6:
            if np.abs(step).max() < 0.05:
                break
            step = step / 4     # too far
            continue
        weights, best = tried, (loss, found[1 : size + 1] + ridge * tried, found[size + 1 :].reshape(size, size) + ridge * np.eye(size))
        _, gradient, hessian = best
        root = np.linalg.cholesky(hessian)
        step = nnls(root.T, np.linalg.solve(root, hessian @ weights - gradient))[0] - weights
    return weights


def fit_weights(setting: Setting, replay: Replay, names: list[str] | None = None) -> Fit:
    """The blend's weights from earlier nights; `names`: the components to choose among (default: all that such a log may have)."""
    names = names or list(components(setting))
    staged = replay.stage(partial(pool, names))

    def mean_ndcg(mixtures: list[Weights]) -> np.ndarray:
        return staged.mean(partial(ndcg_sums, np.array([[m.get(n, 0.0) for n in names] for m in mixtures]), replay.k))

    def mean_likelihood(weights: np.ndarray) -> np.ndarray:
        return staged.mean(partial(likelihood_sums, weights))

    likely = most_likely(len(names), mean_likelihood, replay.n_lists)
    plausible = {name: round(float(w), 3) for name, w in zip(names, likely, strict=True) if w > 0.01}
    best, tried = search(names, setting, mean_ndcg, replay.n_lists, [plausible] if plausible else [], replay.enough)
    return Fit({"weights": best}, [({"weights": weights}, score) for weights, score in tried])


def worth(n_lists: int) -> float:
    """NDCG that a change must gain: a tenth of what one list's NDCG (spread about .25) does to the mean by chance."""
    return max(5e-4, CHANCE / np.sqrt(n_lists))


def search(
    names: list[str], setting: Setting, mean_ndcg: MeanNdcg, n_lists: int, more_starts: list[Weights] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[Weights, list[tuple[Weights, float]]]:
    """The best weights found, and every mixture tried with its NDCG.  `enough()`: stop after this round."""
    least = worth(n_lists)
    tried: dict[tuple, tuple[Weights, float]] = {}

    def best_of(mixtures: list[Weights]) -> tuple[Weights, float]:
        # kept without zeros: a component that is not there cannot be dropped again
        new = {_key(m): {n: w for n, w in m.items() if w} for m in mixtures if _key(m) not in tried}
        if new:
            tried.update({key: (m, float(s)) for (key, m), s in zip(new.items(), mean_ndcg(list(new.values())), strict=True)})
        return max((tried[_key(m)] for m in mixtures), key=lambda found: found[1])

    plain = [{n: w for n, w in start.items() if n in names} for start in starts(setting)]
    best, score = best_of([*(more_starts or []), *filter(None, plain)])
    for _ in range(ROUNDS):
        changes = _changes(best, names)
        best_of([{**best, **change} for change in changes])
        gains = sorted(((tried[_key({**best, **c})][1], number, c) for number, c in enumerate(changes)), key=lambda g: (-g[0], g[1]))
        useful = _one_per_component([c for gain, _, c in gains if gain > score + least])
        together = [{**best, **{n: w for c in useful[:m] for n, w in c.items()}} for m in (1, 2, 4, 8) if m <= len(useful)]
        if not together:
            break
        better, better_score = best_of(together)
        if better_score <= score + least:
            break
        best, score = better, better_score
        if enough():
            break
    return _without_the_idle(best, score, least, best_of), list(tried.values())


def _key(weights: Weights) -> tuple:
    return tuple(sorted((n, round(w, 9)) for n, w in weights.items() if w))


def _changes(weights: Weights, names: list[str]) -> list[Weights]:
    """One component dropped, halved, doubled or added."""
    out = []
    for name in names:
        now = weights.get(name, 0.0)
        out += [{name: w} for w in ((0.0, now / 2, now * 2) if now else (0.1, 0.3, 1.0, 3.0))]
    return out


def _one_per_component(changes: list[Weights]) -> list[Weights]:
    """The first change of each component."""
    first: dict[str, Weights] = {}
    for change in changes:
        first.setdefault(next(iter(change)), change)
    return list(first.values())


def _without_the_idle(best: Weights, score: float, least: float, best_of: Callable[[list[Weights]], tuple[Weights, float]]) -> Weights:
    """Drop components, the least useful first, as long as that costs less than `least`."""
    while len(best) > 1:
        fewer, without = best_of([{n: w for n, w in best.items() if n != gone} for gone in best])
        if without < score - least:
            break
        best, score = fewer, max(score, without)
    return best
