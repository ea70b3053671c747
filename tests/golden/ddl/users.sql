CREATE TABLE IF NOT EXISTS delta.`ROOT/users` (
    `user_id` string NOT NULL COMMENT 'the user',
    `valid_from` timestamp NOT NULL COMMENT 'from this instant on the row holds, UTC',
    `valid_to` timestamp COMMENT 'until this instant, exclusive; NULL = until further notice',
    `zone` string COMMENT 'IANA time zone of the user; NULL = the log’s default zone',
    `segment` string COMMENT 'segment used for fallback lists; NULL = everybody',
    `attributes` string COMMENT 'other attributes, JSON',
    `opt_out` boolean NOT NULL COMMENT 'true: no list is made for the user',
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …'
) USING DELTA COMMENT 'One user in one validity interval';
