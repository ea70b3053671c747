CREATE TABLE IF NOT EXISTS delta.`ROOT/events_quarantine` (
    `row_hash` string NOT NULL COMMENT 'hash of file, place in file and raw text',
    `raw` string NOT NULL COMMENT 'the row as it was read: the raw line, or its columns as JSON',
    `reason` string NOT NULL COMMENT 'reason code: malformed, bad_time, too_early, in_future, too_late, no_user, no_item, unknown_event_type, bad_value, or a rule of the mapping',
    `source_file` string NOT NULL COMMENT 'name of the input file, without its folder',
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …'
) USING DELTA COMMENT 'One input row that was refused, kept as it came';
