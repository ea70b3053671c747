CREATE TABLE IF NOT EXISTS delta.`ROOT/events` (
    `event_id` string NOT NULL COMMENT 'hash of the merge keys of the mapping (128 bits, hex); the same row read twice has the same id',
    `user_id` string NOT NULL COMMENT 'who; trimmed and in Unicode form NFC, case kept',
    `item_id` string NOT NULL COMMENT 'with what; trimmed and in Unicode form NFC, case kept',
    `item_index` int NOT NULL COMMENT 'the item’s integer in item_vocabulary',
    `ts` timestamp NOT NULL COMMENT 'when it happened, UTC; for logs without a clock a position, one day a step',
    `event_type` string NOT NULL COMMENT 'what kind of interaction; one of the mapping’s event types',
    `type_code` int NOT NULL COMMENT 'the mapping’s stable integer of the event type',
    `value` double COMMENT 'amount, rating, price paid, as the mapping says; NULL when the log has none',
    `dwell_s` double COMMENT 'seconds the user stayed; NULL when not known',
    `lat` double COMMENT 'place of the event, degrees north; NULL when not known',
    `lon` double COMMENT 'place of the event, degrees east; NULL when not known',
    `context` string COMMENT 'free context of the event, JSON; NULL when none',
    `source_seq` bigint NOT NULL COMMENT 'order inside a tie in time: the mapping’s order expression, else the row’s place in its file',
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …',
    `event_date` date NOT NULL COMMENT 'UTC date of ts'
) USING DELTA PARTITIONED BY (event_date) COMMENT 'One accepted interaction of a user with an item' TBLPROPERTIES (
    'delta.constraints.user_id_not_blank' = 'length(user_id) > 0',
    'delta.constraints.item_id_not_blank' = 'length(item_id) > 0');
