"""A small world for the tests of recs/serve: item tables in the documented format, histories as frames, a model folder."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recs.clock import DAY, HOUR
from recs.evidence.item_tables import FOREVER_US, HALF_LIVES, WINDOWS, ItemTables, write_manifest
from recs.models import make

CUT = 20_000 * DAY          # 2024-10-04 00:00 UTC
SERVE = CUT + 7 * HOUR


def item_tables(
    folder: Path, items: dict[str, dict[str, Any]], cooc: dict[tuple[str, str], float] | None = None, cut_us: int = CUT,
) -> ItemTables:
    """`items`: id -> index, and if wanted users (0), category (-1), available_from (0), available_until (for ever)."""
    folder.mkdir(parents=True)
    ids = sorted(items)
    rows = [items[i] for i in ids]
    texts = [i.encode() for i in ids]
    users = np.array([r.get("users", 0) for r in rows], np.float32)
    arrays = {
        "item_index": np.array([r["index"] for r in rows], np.int32),
        "item_ids.bytes": np.frombuffer(b"".join(texts), np.uint8), "item_ids.ends": np.cumsum([len(t) for t in texts]),
        "available_from": np.array([r.get("available_from", 0) for r in rows], np.int64),
        "available_until": np.array([r.get("available_until", FOREVER_US) for r in rows], np.int64),
        "category": np.array([r.get("category", -1) for r in rows], np.int32),
        **{f"stat.{n}": users for n in ("events_all", "users_met", *(f"users_{w}" for w in WINDOWS), *(f"decay_{h}" for h in HALF_LIVES))},
        "stat.first_h": np.ones(len(ids), np.float32), "stat.last_h": np.ones(len(ids), np.float32),
    }
    if cooc is not None:
        s = sp.lil_matrix((len(ids), len(ids)), dtype=np.float32)
        for (a, b), v in cooc.items():
            s[ids.index(a), ids.index(b)] = s[ids.index(b), ids.index(a)] = v
        c = s.tocsr()
        arrays |= {"cooc.indptr": c.indptr.astype(np.int64), "cooc.indices": c.indices.astype(np.int32), "cooc.values": c.data}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    write_manifest(folder, cut_us=cut_us, max_batch=1, n_items=len(ids), kinds=["cooc"] if cooc is not None else [])
    return ItemTables(folder)


def requests(histories: dict[str, list[tuple]], request_us: int = SERVE, blocked: dict[str, list[int]] | None = None) -> pd.DataFrame:
    """`histories`: user -> (item index, instant, type code) oldest first."""
    rows = []
    for user, events in histories.items():
        nan = [float("nan")] * len(events)
        rows.append({
            "user_id": user, "item_index": [e[0] for e in events], "type_code": [e[2] if len(e) > 2 else 1 for e in events],
            "ts": [e[1] for e in events], "value": nan, "dwell_s": nan, "lat": nan, "lon": nan, "segment_code": [0] * len(events),
            "request_us": request_us, "blocked": (blocked or {}).get(user),
        })
    return pd.DataFrame(rows)


REQUEST_DDL = (
    "user_id string, item_index array<int>, type_code array<int>, ts array<bigint>, value array<float>, dwell_s array<float>, "
    "lat array<float>, lon array<float>, segment_code array<int>, request_us bigint, blocked array<int>"
)


def model_folder(folder: Path, name: str = "popularity", params: dict[str, Any] | None = None) -> Path:
    make(name, params).save(folder)
    return folder


def frame(spark, rows: list[tuple], ddl: str):
    """A small frame whose size Spark knows (a local relation by way of Arrow): joins with it need no shuffle."""
    names = [part.strip().split()[0].strip("`") for part in _columns(ddl)]
    columns = {n: pd.Series([r[i] for r in rows], dtype=object) for i, n in enumerate(names)}
    return spark.createDataFrame(pd.DataFrame(columns), ddl)


def _columns(ddl: str) -> list[str]:
    """Split at commas outside of <…>."""
    out, depth = [""], 0
    for c in ddl:
        depth += (c == "<") - (c == ">")
        if c == "," and not depth:
            out.append("")
        else:
            out[-1] += c
    return out


def contract_frame(spark, contract, rows: list[dict[str, Any]]):
    """A frame with a contract's columns; absent ones are NULL, NOT NULL is not asked for."""
    ddl = ", ".join(f"`{c.name}` {c.type}" for c in contract.columns)
    return frame(spark, [tuple(r.get(c) for c in contract.column_names) for r in rows], ddl)
