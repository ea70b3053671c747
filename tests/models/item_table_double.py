"""Item tables in the documented format from a frame of events, in plain pandas: a stand-in for Spark's stage in model tests."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recs.clock import DAY, HOUR
from recs.evidence.item_facts import codes_of
from recs.evidence.item_kinds import OF_CATALOGUE
from recs.evidence.item_tables import FOREVER_US, HALF_LIVES, WINDOWS, ItemTables, write_manifest
from recs.nn.text import encode

TOKENS = 24     # of a text that are read


def said_of(item: int) -> str:
    """What the catalogue says: one of six themes, and a name."""
    return f"theme{item % 6} name{item}"


def build(
    folder: Path, events: pd.DataFrame, cut_us: int, kinds: tuple[str, ...] = (), said: Callable[[int], str] = said_of,
    reader: str = "hashed", facts: Callable[[int], tuple[str | None, str | None, float | None]] | None = None,
    vectors: Callable[[int], dict[str, np.ndarray]] | None = None, unmet: tuple[int, ...] = (),
    place: Callable[[np.ndarray], np.ndarray] | None = None,
) -> ItemTables:
    """`events`: user (int), item (vocabulary integer), ts (microseconds); item ids are the integers as zero-padded text.

    `said`: what the catalogue says of an item; `reader`: the model that reads it; `facts`: category, brand and price of an item;
    `vectors`: those of other modalities; `unmet`: items of the catalogue without an event; `place`: [N, 2] of items.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = events[events.ts < cut_us].sort_values(["user", "ts"], kind="stable")
    index = np.union1d(seen.item.unique(), unmet).astype(np.int32)
    i = np.searchsorted(index, seen.item.to_numpy())
    n = len(index)
    arrays = {
        "item_index": index, "available_from": np.zeros(n, np.int64), "available_until": np.full(n, FOREVER_US),
        "category": np.full(n, -1, np.int32), **_ids(index), **_statistics(seen.assign(i=i), cut_us, n),
    }
    if place is not None:
        arrays |= dict(zip(("stat.lat", "stat.lon"), place(index).T.astype(np.float32), strict=True))
    if "text" in kinds:
        texts = [said(i) for i in index]
        arrays["text.dense"] = encode(reader, texts, TOKENS).astype(np.float16)
        arrays["text.said.bytes"] = np.frombuffer("".join(texts).encode(), np.uint8)
        arrays["text.said.ends"] = np.cumsum([len(t.encode()) for t in texts])
    if "facts" in kinds:
        arrays["facts.dense"] = np.stack([codes_of(*facts(i)) for i in index])
    for modality in sorted(set().union(*(vectors(i) for i in index))) if "vectors" in kinds else ():
        width = next(len(v[modality]) for v in map(vectors, index) if modality in v)
        rows = [vectors(i).get(modality, np.zeros(width)) for i in index]
        arrays[f"vectors.{modality}.dense"] = np.array(rows, np.float16)
    for kind in (k for k in kinds if k not in OF_CATALOGUE):
        arrays |= _neighbours(kind, seen.user.to_numpy(), i, seen.ts.to_numpy(), cut_us, n)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    inputs = {"text": {"model": reader, "max_tokens": TOKENS}}
    write_manifest(folder, cut_us=int(cut_us), n_items=n, kinds=sorted(kinds), event_types={}, inputs=inputs)
    return ItemTables(folder)


def _ids(index: np.ndarray) -> dict[str, np.ndarray]:
    ids = [f"i{v:06d}".encode() for v in index]
    return {
        "item_ids.bytes": np.frombuffer(b"".join(ids), np.uint8),
        "item_ids.ends": np.cumsum([len(b) for b in ids]).astype(np.int64),
    }


def _statistics(seen: pd.DataFrame, cut: int, n: int) -> dict[str, np.ndarray]:
    first = seen.assign(day=seen.ts // DAY, hour=seen.ts // HOUR).drop_duplicates(["user", "i", "day"])
    age_h = (cut - (first.hour * HOUR + HOUR // 2)).to_numpy() / HOUR
    start_h = age_h + 0.5
    out = {f"stat.users_{w}": np.bincount(first.i[start_h <= (h or np.inf)], minlength=n) for w, h in WINDOWS.items()}
    out |= {f"stat.decay_{w}": np.bincount(first.i, 2.0 ** (-age_h / h), minlength=n) for w, h in HALF_LIVES.items()}
    by_item = seen.groupby("i").ts
    out |= {
        "stat.events_all": np.bincount(seen.i, minlength=n),
        "stat.first_h": (cut - by_item.min().reindex(range(n), fill_value=0).to_numpy()) / HOUR,
        "stat.last_h": (cut - by_item.max().reindex(range(n), fill_value=0).to_numpy()) / HOUR,
    }
    events_of_user = seen.groupby("user").ts.transform("size")
    met = seen.assign(log_events=np.log1p(events_of_user)).drop_duplicates(["user", "i"])
    users_met = np.bincount(met.i, minlength=n)
    out |= {
        "stat.users_met": users_met, "stat.activity": np.bincount(met.i, met.log_events, minlength=n) / np.maximum(users_met, 1),
        "stat.value_log": np.zeros(n), "stat.lat": 50 + 0.01 * np.arange(n), "stat.lon": np.where(np.arange(n) % 7, 5.0, np.nan),
    }
    return {k: v.astype(np.float32) for k, v in out.items()}


def _neighbours(kind: str, user: np.ndarray, item: np.ndarray, ts: np.ndarray, cut: int, n: int) -> dict[str, np.ndarray]:
    x = sp.csr_matrix((np.ones(len(user)), (user, item)), shape=(user.max() + 1, n))
    x.data[:] = 1.0
    gram = (x.T @ x).toarray()
    norm = np.sqrt(np.diag(gram))
    if kind.startswith("ease:"):
        p = np.linalg.inv(gram + float(kind.split(":")[1]) * np.eye(n))
        b = p / -np.diag(p)
        np.fill_diagonal(b, 0.0)
        return {f"{kind}.dense": b.astype(np.float32)}
    if kind.startswith("als:"):
        factors = int(kind.split(":")[1])
        u, s, vt = np.linalg.svd(x.toarray() / np.maximum(norm, 1), full_matrices=False)
        y = np.zeros((n, factors), np.float32)
        y[:, : len(s)] = (vt.T * np.sqrt(s))[:, :factors]
        return {f"{kind}.dense": y}
    if kind.startswith("ease_near:"):
        p = np.linalg.inv(gram + float(kind.split(":")[1]) * np.eye(n))
        m = np.maximum(p / -np.diag(p), 0)
        np.fill_diagonal(m, 0.0)
    elif kind.startswith("cooc"):
        m = gram / (np.outer(norm, norm) + float(kind.partition(":")[2] or 0))
        np.fill_diagonal(m, 0.0)
    elif kind.startswith("together"):
        row = np.unique(user.astype(np.int64) * 100_000 + ts // DAY, return_inverse=True)[1]
        days = sp.csr_matrix((np.ones(len(row)), (row, item)), shape=(row.max() + 1, n))
        days.data[:] = 1.0
        m = (days.T @ days).toarray()
        m = m / np.maximum(np.sqrt(np.outer(np.diag(m), np.diag(m))), 1)
        np.fill_diagonal(m, 0.0)
    elif kind == "transitions":
        follows = (user[1:] == user[:-1]) & (ts[1:] - ts[:-1] <= 2 * DAY)
        w = 2.0 ** (-(cut - ts[1:]) / (120 * DAY)) * follows
        m = sp.csr_matrix((w, (item[:-1], item[1:])), shape=(n, n)).toarray()
        m = m / (m.sum(1, keepdims=True) + 5)
    elif kind.startswith("follows"):
        events, hours = map(float, kind.split(":")[1:])
        m = np.zeros((n, n))
        for apart in range(1, int(events) + 1):
            follows = (user[apart:] == user[:-apart]) & (ts[apart:] - ts[:-apart] < hours * HOUR) & (item[apart:] != item[:-apart])
            np.add.at(m, (item[:-apart], item[apart:]), 2.0 ** (-(cut - ts[apart:]) / (120 * DAY)) * follows / apart)
        m = m / (m.sum(1, keepdims=True) + 5)
    else:
        idf = np.log((x.shape[0] + 1) / np.maximum(np.diag(gram), 1))
        p = x.toarray() * idf
        p /= np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-9)
        last = np.zeros_like(p)
        np.maximum.at(last, (user, item), 2.0 ** (-(cut - ts) / (3 * DAY)))
        m = p.T @ last
        np.fill_diagonal(m, 0.0)
    s = sp.csr_matrix(m.astype(np.float32))
    return {f"{kind}.indptr": s.indptr.astype(np.int64), f"{kind}.indices": s.indices.astype(np.int32), f"{kind}.values": s.data}
