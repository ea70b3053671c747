"""What the events add up to: sessions, item hours, one history per user."""
from __future__ import annotations

from .table import Column, Table

SESSIONS = Table(
    name="sessions",
    doc="One run of a user’s events with no gap longer than the log’s limit (a gap of exactly the limit still joins)",
    columns=(
        Column("session_id", "string", "hash of user and first event"),
        Column("user_id", "string", "the user"),
        Column("started_at", "timestamp", "instant of the first event, UTC"),
        Column("ended_at", "timestamp", "instant of the last event, UTC"),
        Column("first_event_id", "string", "the first event; ties in time by source_seq, then event_id"),
        Column("first_source_seq", "bigint", "source_seq of the first event"),
        Column("n_events", "bigint", "events in the session"),
        Column("dwell_s", "double", "sum of the known dwell times, seconds"),
        Column("value", "double", "sum of the known values"),
        Column("is_open", "boolean", "true when an event right at the cut would still have joined: ended_at + limit >= as_of"),
        Column("started_date", "date", "UTC date of started_at"),
    ),
    key=("session_id",),
    partitions=("started_date",),
)

ITEM_HOURS = Table(
    name="item_hours",
    doc="One item in one UTC hour: the table behind popularity, trends, fallback lists and drift",
    columns=(
        Column("item_id", "string", "the item"),
        Column("item_index", "int", "its integer in item_vocabulary"),
        Column("hour", "timestamp", "start of the hour, UTC"),
        Column("segment", "string", "segment of the users counted here; '' when users have none"),
        Column("n_events", "bigint", "events"),
        Column("n_by_type", "map<string,bigint>", "events by event type"),
        Column("n_users", "bigint", "distinct users in the hour"),
        Column("n_day_users", "bigint", "users whose first event on the item that UTC day falls into this hour; sums to the day’s distinct users"),
        Column("n_sessions", "bigint", "distinct sessions with an event on the item in this hour"),
        Column("value", "double", "sum of the known values"),
        Column("event_date", "date", "UTC date of the hour"),
    ),
    key=("item_id", "hour", "segment"),
    partitions=("event_date",),
)

# Ragged: all arrays of a row have the same length, oldest event first, order (ts, source_seq, event_id).  A row is a function
# of the user's newest N events before the cut alone, which is what makes a night's update equal a full rebuild.
# Deletion vectors: a night changes a few users in every file; without them each night would rewrite the table.
SEQUENCES = Table(
    name="sequences",
    doc="One user’s history up to the cut: the newest N events as arrays of one length, and the rhythm they show",
    columns=(
        Column("user_id", "string", "the user"),
        Column("event_ids", "array<string>", "the events, oldest first"),
        Column("item_index", "array<int>", "integers of item_vocabulary"),
        Column("type_code", "array<int>", "event types, as the mapping numbers them"),
        Column("ts", "array<bigint>", "instants, microseconds since 1970 UTC"),
        Column("source_seq", "array<bigint>", "order inside a tie in time"),
        Column("value", "array<float>", "values; NaN when missing"),
        Column("dwell_s", "array<float>", "dwell times, seconds; NaN when missing"),
        Column("lat", "array<float>", "degrees north; NaN when missing"),
        Column("lon", "array<float>", "degrees east; NaN when missing"),
        Column("segment_code", "array<int>", "the user’s segment at the event: CRC-32 of its name without the highest bit; 0 when none is known"),
        Column("gap_s", "array<float>", "seconds since the previous event of this row; -1 for the first"),
        Column("session_position", "array<int>", "0, 1, 2, … inside the session, counted inside this row"),
        Column("local_hour", "array<int>", "hour of the day 0–23 in the user’s zone"),
        Column("local_weekday", "array<int>", "day of the week in the user’s zone, 0 = Monday"),
        Column("n_events", "bigint", "length of the arrays"),
        Column("browsing_s", "double", "sum of the known dwell times, seconds"),
        Column("gap_mean_s", "double", "mean gap, seconds; NaN with fewer than two events"),
        Column("gap_std_s", "double", "standard deviation of the gaps (population), seconds; NaN with fewer than two events"),
        Column("day_strength", "double", "length of the mean vector of the events on the local 24 h clock, 0 (no rhythm) to 1"),
        Column("day_phase_h", "double", "its direction: the local hour the day centres on, 0–24; NaN when strength is 0"),
        Column("week_strength", "double", "the same on the 7 day clock"),
        Column("week_phase_d", "double", "its direction in days since Monday 00:00 local, 0–7; NaN when strength is 0"),
        Column("first_ts", "timestamp", "oldest event of the row, UTC"),
        Column("last_ts", "timestamp", "newest event of the row, UTC"),
    ),
    key=("user_id",),
    properties=(("delta.enableDeletionVectors", "true"),),
)
