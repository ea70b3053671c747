"""What the catalogue says of an item beside its text, as integers that mean the same in every night.

    category  "kitchen/pans/woks"    three codes: of "kitchen", "kitchen/pans", "kitchen/pans/woks" (deeper parts are not read)
    brand     "Norvik"               one code
    price     12.90                  one code: half an octave of price, whatever the currency
    nothing                          0

Codes of names are hashes of 31 bits, so that no list of names has to be kept from night to night.
"""
from __future__ import annotations

import hashlib
import math

import numpy as np

FIELDS = ("category", "category2", "category3", "brand", "price")
OF = {"category": (0, 1, 2), "brand": (3,), "price": (4,)}      # what a model asks for -> columns
JOINING = ("category", "brand")     # items with the same one are neighbours, where a model asks for it
PRICES = 1 << 12        # above every code of a price, below no hash: prices and names are of different columns anyway


def codes_of(category: str | None, brand: str | None, price: float | None) -> np.ndarray:
    """[5] int32, see FIELDS."""
    out, parts = np.zeros(len(FIELDS), np.int32), [p for p in (category or "").split("/") if p]
    for depth in range(min(len(parts), 3)):
        out[depth] = _hash("/".join(parts[: depth + 1]))
    if brand:
        out[3] = _hash(brand)
    if price is not None and math.isfinite(price) and price > 0:
        out[4] = int(np.clip(PRICES // 2 + round(2 * math.log2(price)), 1, PRICES - 1))
    return out


def _hash(name: str) -> int:
    return 1 + int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little") % (2**31 - 2)
