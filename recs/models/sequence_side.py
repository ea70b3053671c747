"""Side information of a sequence model's items: from the item tables to its network, the same where it is trained and where it serves.

    parameter    of an item                                                          kind of item table
    facts        category (path, three levels), brand, price: as codes               facts
    vectors      image, audio, …: vectors of the catalogue, by modality              vectors
    near         items of the same category, of the same brand, or of a file of      facts
                 edges: `near: [category, brand, edges.csv]` (two item ids a line)

A network numbers the codes it met in training; one that is new tonight is unknown (0).  The neighbours of an item are the NEAR most used
ones that the network has numbers for.  An item that came after training has its side information from tonight's catalogue, and is scored
by it.

Shapes: N items asked for, F fields, M neighbours.
"""
from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recs.evidence.item_facts import FIELDS, JOINING, OF
from recs.evidence.item_kinds import FACTS, VECTORS
from recs.evidence.item_tables import ArtifactError, ItemTables
from recs.nn.next_item import NextItem

ASKED = ("facts", "vectors", "near")    # parameters
NEAR = 8            # neighbours
JOIN = {"category": 1, "brand": 3}      # columns of `facts`
CODES, EDGES, COMMON = "side.codes.", "side.edges", "side.common"
SIDE = "item.side."


@dataclass(frozen=True)
class Side:
    """What a model reads of its items, with what it must remember: numbers of codes and edges."""

    facts: tuple[int, ...]              # columns of the table `facts`
    codes: tuple[np.ndarray, ...]       # of each, the codes known in training, ascending: the network's number is the place + 1
    vectors: dict[str, int]             # modality -> width
    joins: tuple[int, ...]              # columns whose equal codes make neighbours
    edges: np.ndarray                   # [E, 2] vocabulary integers
    common: np.ndarray                  # vocabulary integers of the network's items, the most used first

    @cached_property
    def near(self) -> int:
        """M."""
        return NEAR if self.joins or len(self.edges) else 0

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """Keys of the network's Config."""
        return {"facts": tuple(map(len, self.codes)), "vectors": self.vectors, "near": self.near}

    @classmethod
    def of_training(cls, params: Mapping[str, Any], tables: ItemTables, integers: np.ndarray, met: np.ndarray) -> Side:
        """For a network of these items, which were met so often; the tables are looked at where something is asked of them."""
        if not any(params.get(name) for name in ASKED):
            return cls((), (), {}, (), np.zeros((0, 2), np.int32), np.zeros(0, np.int32))
        has = FACTS in tables.kinds
        wanted = tuple(c for name in params.get("facts", []) for c in OF[name]) if has else ()
        columns = tables.columns(integers)
        mine = np.asarray(tables.dense(FACTS))[columns[columns >= 0]] if has else np.zeros((0, len(FIELDS)), np.int32)
        codes = tuple(np.unique(mine[mine[:, c] > 0, c]) for c in wanted)
        if odd := [m for m in params.get("vectors", []) if not m.isidentifier()]:
            raise ValueError(f"vectors: {', '.join(odd)}: a modality's name is letters, digits and _")
        there = [m for m in params.get("vectors", []) if VECTORS in tables.kinds and m in tables.modalities]
        widths = {m: tables.array(f"{VECTORS}.{m}.dense").shape[1] for m in there}
        joins = tuple(JOIN[name] for name in params.get("near", []) if name in JOINING) if has else ()
        edges = [edges_of(Path(name), tables) for name in params.get("near", []) if name not in JOINING]
        order = np.argsort(-met, kind="stable")
        return cls(wanted, codes, widths, joins, np.concatenate([np.zeros((0, 2), np.int32), *edges]), integers[order].astype(np.int32))

    @classmethod
    def of_model(cls, params: Mapping[str, Any], weights: Mapping[str, np.ndarray], state: Mapping[str, torch.Tensor]) -> Side:
        """As it travelled with a model."""
        wanted = tuple(c for name in params.get("facts", []) for c in OF[name])
        codes = tuple(weights[f"{CODES}{c}"] for c in wanted if f"{CODES}{c}" in weights)
        at = f"{SIDE}vectors_"
        widths = {n.removeprefix(at): v.shape[1] for n, v in state.items() if n.startswith(at)}
        has = weights["side.joins"] if "side.joins" in weights else np.zeros(0, np.int32)
        return cls(wanted[: len(codes)], codes, widths, tuple(map(int, has)), weights.get(EDGES, np.zeros((0, 2), np.int32)),
                   weights.get(COMMON, np.zeros(0, np.int32)))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What travels beside the network."""
        out = {f"{CODES}{c}": codes for c, codes in zip(self.facts, self.codes, strict=True)}
        if self.near:
            out |= {EDGES: self.edges, COMMON: self.common, "side.joins": np.array(self.joins, np.int32)}
        return out

    def rows(self, tables: ItemTables, integers: np.ndarray, number: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows of the network's buffers for these items [N]; `number` [V] of each vocabulary integer."""
        if not (self.facts or self.vectors or self.near):
            return {}
        columns = tables.columns(integers)
        there, at = columns >= 0, np.maximum(columns, 0)
        out: dict[str, np.ndarray] = {}
        facts = np.asarray(tables.dense(FACTS)) if FACTS in tables.kinds else np.zeros((max(tables.n_items, 1), len(FIELDS)), np.int32)
        mine = facts[at] * there[:, None]
        if self.facts:
            out["codes"] = np.stack([place_of(known, mine[:, c]) for c, known in zip(self.facts, self.codes, strict=True)], axis=1)
        for modality, width in self.vectors.items():
            have = VECTORS in tables.kinds and modality in tables.modalities
            vectors = tables.array(f"{VECTORS}.{modality}.dense") if have else np.zeros((max(tables.n_items, 1), width), np.float16)
            if vectors.shape[1] != width:
                raise ArtifactError(f"{tables.path}: {modality} vectors of {vectors.shape[1]} numbers, the model learned from {width}: "
                                    "train it again")
            out[f"vectors_{modality}"] = np.where(there[:, None], vectors[at], np.float16(0))
        if self.near:
            out["near"] = self._near(tables, facts, mine, integers, number)
        return {f"{SIDE}{name}": torch.from_numpy(np.ascontiguousarray(values)) for name, values in out.items()}

    def _near(self, tables: ItemTables, facts: np.ndarray, mine: np.ndarray, integers: np.ndarray, number: np.ndarray) -> np.ndarray:
        """[N, M] numbers of neighbours, 0 = no more: along edges first, then of the same category or brand, the most used first."""
        around: list[list[int]] = [[] for _ in integers]
        row = {int(i): n for n, i in enumerate(integers)}
        for a, b in np.concatenate([self.edges, self.edges[:, ::-1]]):
            if int(a) in row and b < len(number) and number[b]:
                around[row[int(a)]].append(int(number[b]))
        common = self.common[tables.columns(self.common) >= 0]
        of_common = facts[tables.columns(common)]
        for join in self.joins:
            groups: dict[int, list[int]] = {}
            for code, integer in zip(_joining(of_common, join), common, strict=True):
                if code and len(group := groups.setdefault(int(code), [])) <= NEAR:     # one more: an item is not its own neighbour
                    group.append(int(number[integer]))
            for n, code in enumerate(_joining(mine, join)):
                around[n] += groups.get(int(code), [])
        out = np.zeros((len(integers), NEAR), np.int32)
        for n, found in enumerate(around):
            own = int(number[integers[n]]) if integers[n] < len(number) else 0
            kept = list(dict.fromkeys(x for x in found if x != own))[:NEAR]
            out[n, : len(kept)] = kept
        return out


def edges_of(path: Path, tables: ItemTables) -> np.ndarray:
    """[E, 2] vocabulary integers of a file's lines `item,item`; lines with an item that has no column are left out."""
    try:
        with path.open(newline="") as f:
            pairs = [row[:2] for row in csv.reader(f) if len(row) >= 2]
    except OSError as e:
        raise ValueError(f"near: {path} is neither {' nor '.join(JOINING)} nor a file of edges that can be read ({e})") from e
    columns = tables.find([item for pair in pairs for item in pair]).reshape(-1, 2)
    return np.asarray(tables.array("item_index"))[columns[(columns >= 0).all(axis=1)]].astype(np.int32)


def _joining(facts: np.ndarray, column: int) -> np.ndarray:
    """[N] codes that join items; of a category with one level that one, else the second: the first holds half the catalogue."""
    return np.where(facts[:, 1] > 0, facts[:, 1], facts[:, 0]) if column == JOIN["category"] else facts[:, column]


def place_of(known: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """int32, of any shape: place + 1 of each code among those known (ascending), 0 = none or a new one."""
    at = np.minimum(np.searchsorted(known, codes), max(len(known) - 1, 0))
    found = (known[at] == codes) if len(known) else np.zeros(codes.shape, bool)
    return np.where(found & (codes > 0), at + 1, 0).astype(np.int32)


def put(net: NextItem, rows: Mapping[str, torch.Tensor]) -> None:
    """Into a network whose items 1 … I they are of."""
    for name, values in rows.items():
        net.get_buffer(name)[1:] = values
