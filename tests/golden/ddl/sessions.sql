CREATE TABLE IF NOT EXISTS delta.`ROOT/sessions` (
    `session_id` string NOT NULL COMMENT 'hash of user and first event',
    `user_id` string NOT NULL COMMENT 'the user',
    `started_at` timestamp NOT NULL COMMENT 'instant of the first event, UTC',
    `ended_at` timestamp NOT NULL COMMENT 'instant of the last event, UTC',
    `first_event_id` string NOT NULL COMMENT 'the first event; ties in time by source_seq, then event_id',
    `first_source_seq` bigint NOT NULL COMMENT 'source_seq of the first event',
    `n_events` bigint NOT NULL COMMENT 'events in the session',
    `dwell_s` double NOT NULL COMMENT 'sum of the known dwell times, seconds',
    `value` double NOT NULL COMMENT 'sum of the known values',
    `is_open` boolean NOT NULL COMMENT 'true when an event right at the cut would still have joined: ended_at + limit >= as_of',
    `started_date` date NOT NULL COMMENT 'UTC date of started_at'
) USING DELTA PARTITIONED BY (started_date) COMMENT 'One run of a user’s events with no gap longer than the log’s limit (a gap of exactly the limit still joins)';
