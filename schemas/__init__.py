"""Table contracts, in pipeline order: one source for DDL, fixtures, checks and the data dictionary."""
from __future__ import annotations

from .catalogue import BLOCKS, ITEM_VOCABULARY, ITEMS, TEXT_VECTORS, USERS
from .events import BATCHES, EVENTS, INPUT_FILES, QUARANTINE
from .histories import ITEM_HOURS, SEQUENCES, SESSIONS
from .outcomes import METRICS, MODELS, NIGHTS, OUTCOMES, PROMOTIONS, RECOMMENDATIONS
from .table import Column, ContractError, Table

ALL_TABLES: tuple[Table, ...] = (
    INPUT_FILES, EVENTS, QUARANTINE, BATCHES, ITEMS, USERS, ITEM_VOCABULARY, BLOCKS, TEXT_VECTORS,
    SESSIONS, ITEM_HOURS, SEQUENCES, MODELS, PROMOTIONS, RECOMMENDATIONS, NIGHTS, METRICS, OUTCOMES,
)

__all__ = [
    "ALL_TABLES", "BATCHES", "BLOCKS", "EVENTS", "INPUT_FILES", "ITEMS", "ITEM_HOURS", "ITEM_VOCABULARY", "METRICS",
    "MODELS", "NIGHTS", "OUTCOMES", "PROMOTIONS", "QUARANTINE", "RECOMMENDATIONS", "SEQUENCES", "SESSIONS", "TEXT_VECTORS", "USERS",
    "Column", "ContractError", "Table",
]
