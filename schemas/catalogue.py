"""What is known about items and users, and the integers items are stored by."""
from __future__ import annotations

from .events import BATCH_ID
from .table import Column, Table

VALID_FROM = Column("valid_from", "timestamp", "from this instant on the row holds, UTC")
VALID_TO = Column("valid_to", "timestamp", "until this instant, exclusive; NULL = until further notice", nullable=True)

ITEMS = Table(
    name="items",
    doc="One catalogue item in one validity interval",
    columns=(
        Column("item_id", "string", "the item"),
        VALID_FROM,
        VALID_TO,
        Column("title", "string", "title as shown; NULL when the log has none", nullable=True),
        Column("description", "string", "longer text", nullable=True),
        Column("category", "string", "category path, parts joined by /", nullable=True),
        Column("brand", "string", "brand, publisher or artist", nullable=True),
        Column("price", "double", "price in the log’s currency", nullable=True),
        Column("lat", "double", "place of the item, degrees north", nullable=True),
        Column("lon", "double", "place of the item, degrees east", nullable=True),
        Column("available_from", "timestamp", "may be recommended from this instant on; NULL = always", nullable=True),
        Column("available_until", "timestamp", "may be recommended before this instant; NULL = always", nullable=True),
        Column("vectors", "map<string,array<float>>", "vectors by modality (image, audio, …); NULL when none", nullable=True),
        BATCH_ID,
    ),
    key=("item_id", "valid_from"),
)

USERS = Table(
    name="users",
    doc="One user in one validity interval",
    columns=(
        Column("user_id", "string", "the user"),
        VALID_FROM,
        VALID_TO,
        Column("zone", "string", "IANA time zone of the user; NULL = the log’s default zone", nullable=True),
        Column("segment", "string", "segment used for fallback lists; NULL = everybody", nullable=True),
        Column("attributes", "string", "other attributes, JSON", nullable=True),
        Column("opt_out", "boolean", "true: no list is made for the user"),
        BATCH_ID,
    ),
    key=("user_id", "valid_from"),
)

# A storage key, not a model's coordinate: each model owns a dense map of the items it scores.
ITEM_VOCABULARY = Table(
    name="item_vocabulary",
    doc="One item ever seen, with an integer that never changes",
    columns=(
        Column("item_id", "string", "the item"),
        Column("item_index", "int", "its integer, 0, 1, 2, …; append-only"),
        Column("tombstoned_on", "date", "the item was withdrawn for good on this date; NULL while it lives", nullable=True),
        BATCH_ID,
    ),
    key=("item_id",),
)

# A function of model and text alone: rows are appended when a text is new, and never change.
TEXT_VECTORS = Table(
    name="text_vectors",
    doc="One text of the catalogue as a language model reads it",
    columns=(
        Column("model", "string", "the model, its folder or hub name and how many tokens it reads: `text` of the configuration"),
        Column("text_hash", "string", "SHA-256 of the text, hex"),
        Column("vector", "array<float>", "the vector, of unit length; zeros for a text without a word"),
    ),
    key=("model", "text_hash"),
)

# A person's decision; rows are appended by `recs block` and never rewritten.
BLOCKS = Table(
    name="blocks",
    doc="One decision not to recommend an item, to everybody or to one user",
    columns=(
        Column("user_id", "string", "the user; NULL = everybody", nullable=True),
        Column("item_id", "string", "the item"),
        Column("blocked_from", "timestamp", "from this instant on, UTC"),
        Column("blocked_until", "timestamp", "until this instant, exclusive; NULL = for good", nullable=True),
        Column("reason", "string", "why, in words"),
    ),
    key=("user_id", "item_id", "blocked_from"),
)
