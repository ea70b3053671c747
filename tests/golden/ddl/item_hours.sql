CREATE TABLE IF NOT EXISTS delta.`ROOT/item_hours` (
    `item_id` string NOT NULL COMMENT 'the item',
    `item_index` int NOT NULL COMMENT 'its integer in item_vocabulary',
    `hour` timestamp NOT NULL COMMENT 'start of the hour, UTC',
    `segment` string NOT NULL COMMENT 'segment of the users counted here; ’’ when users have none',
    `n_events` bigint NOT NULL COMMENT 'events',
    `n_by_type` map<string,bigint> NOT NULL COMMENT 'events by event type',
    `n_users` bigint NOT NULL COMMENT 'distinct users in the hour',
    `n_day_users` bigint NOT NULL COMMENT 'users whose first event on the item that UTC day falls into this hour; sums to the day’s distinct users',
    `n_sessions` bigint NOT NULL COMMENT 'distinct sessions with an event on the item in this hour',
    `value` double NOT NULL COMMENT 'sum of the known values',
    `event_date` date NOT NULL COMMENT 'UTC date of the hour'
) USING DELTA PARTITIONED BY (event_date) COMMENT 'One item in one UTC hour: the table behind popularity, trends, fallback lists and drift';
