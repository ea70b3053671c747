"""Items at a cut -> codes of category path, brand and price, and vectors by modality (recs/evidence/item_facts.py says what codes mean)."""
from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

from recs.evidence.item_facts import FIELDS, codes_of

from .item_statistics import newest_at

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame


def facts_at(items: DataFrame, cut_us: int, item_ids: pd.Series) -> np.ndarray:
    """[I, 5] int32 codes of these items."""
    row, out = {item: n for n, item in enumerate(item_ids)}, np.zeros((len(item_ids), len(FIELDS)), np.int32)
    for item, *said in newest_at(items, [cut_us], F.struct("category", "brand", "price")).select("item_id", "f.*").toLocalIterator():
        if item in row:
            out[row[item]] = codes_of(*said)
    return out


def vectors_at(items: DataFrame, cut_us: int, item_ids: pd.Series) -> dict[str, np.ndarray]:
    """Modality -> [I, S] float16, zeros where an item has none.

    A modality's width is that of most of its vectors; others, and those that hold what is no number, count as missing: they come from
    another model or are broken, and one of them must not cost the night.
    """
    row, found = {item: n for n, item in enumerate(item_ids)}, {}
    said = newest_at(items, [cut_us], F.struct("vectors")).select("item_id", "f.vectors").where("vectors IS NOT NULL")
    for item, vectors in said.toLocalIterator():
        if item in row:
            for modality, vector in vectors.items():
                if vector and np.isfinite(np.array(vector, float)).all():
                    found.setdefault(modality, {})[row[item]] = vector
    out = {}
    for modality, by_row in sorted(found.items()):
        width = Counter(map(len, by_row.values())).most_common(1)[0][0]
        out[modality] = np.zeros((len(row), width), np.float16)
        for n, vector in by_row.items():
            if len(vector) == width:
                out[modality][n] = np.array(vector, np.float32) / max(np.linalg.norm(vector), 1e-9)
    return out
