"""What came in: events, the rows that were refused, and the files they came from."""
from __future__ import annotations

from .table import Column, Table

BATCH_ID = Column("batch_id", "bigint", "number of the ingest run that brought the row; 1, 2, 3, …")

# Ties in time are real (a basket shares one timestamp): the order of a user's events is always (ts, source_seq, event_id).
EVENTS = Table(
    name="events",
    doc="One accepted interaction of a user with an item",
    columns=(
        Column("event_id", "string", "hash of the merge keys of the mapping (128 bits, hex); the same row read twice has the same id"),
        Column("user_id", "string", "who; trimmed and in Unicode form NFC, case kept"),
        Column("item_id", "string", "with what; trimmed and in Unicode form NFC, case kept"),
        Column("item_index", "int", "the item’s integer in item_vocabulary"),
        Column("ts", "timestamp", "when it happened, UTC; for logs without a clock a position, one day a step"),
        Column("event_type", "string", "what kind of interaction; one of the mapping’s event types"),
        Column("type_code", "int", "the mapping’s stable integer of the event type"),
        Column("value", "double", "amount, rating, price paid, as the mapping says; NULL when the log has none", nullable=True),
        Column("dwell_s", "double", "seconds the user stayed; NULL when not known", nullable=True),
        Column("lat", "double", "place of the event, degrees north; NULL when not known", nullable=True),
        Column("lon", "double", "place of the event, degrees east; NULL when not known", nullable=True),
        Column("context", "string", "free context of the event, JSON; NULL when none", nullable=True),
        Column("source_seq", "bigint", "order inside a tie in time: the mapping’s order expression, else the row’s place in its file"),
        BATCH_ID,
        Column("event_date", "date", "UTC date of ts"),
    ),
    key=("event_id",),
    partitions=("event_date",),
    checks=(("user_id_not_blank", "length(user_id) > 0"), ("item_id_not_blank", "length(item_id) > 0")),
)

QUARANTINE = Table(
    name="events_quarantine",
    doc="One input row that was refused, kept as it came",
    columns=(
        Column("row_hash", "string", "hash of file, place in file and raw text"),
        Column("raw", "string", "the row as it was read: the raw line, or its columns as JSON"),
        Column("reason", "string", "reason code: malformed, bad_time, too_early, in_future, too_late, no_user, no_item, unknown_event_type, bad_value, or a rule of the mapping"),
        Column("source_file", "string", "name of the input file, without its folder"),
        BATCH_ID,
    ),
    key=("row_hash",),
)

INPUT_FILES = Table(
    name="input_files",
    doc="One input file that has been read; a file already here is not read again",
    columns=(
        Column("source_file", "string", "path of the input file (a Delta source: path and table version)"),
        Column("fingerprint", "string", "size and modification time of the file when it was read"),
        BATCH_ID,
    ),
    key=("source_file", "fingerprint"),
)

BATCHES = Table(
    name="batches",
    doc="One finished ingest run; written last, so a batch that is here is whole",
    columns=(
        BATCH_ID,
        Column("log", "string", "name of the mapping"),
        Column("rows_in", "bigint", "rows read"),
        Column("rows_accepted", "bigint", "rows that became events"),
        Column("rows_quarantined", "bigint", "rows refused"),
        Column("rows_duplicate", "bigint", "rows merged into another row of this or an earlier batch"),
        Column("min_ts", "timestamp", "first event of the batch; NULL when it has none", nullable=True),
        Column("max_ts", "timestamp", "last event of the batch; NULL when it has none", nullable=True),
        Column("finished_at", "timestamp", "when the run ended, UTC"),
    ),
    key=("batch_id",),
    checks=(("rows_add_up", "rows_in = rows_accepted + rows_quarantined + rows_duplicate"),),
)
