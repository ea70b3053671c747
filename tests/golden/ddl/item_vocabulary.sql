CREATE TABLE IF NOT EXISTS delta.`ROOT/item_vocabulary` (
    `item_id` string NOT NULL COMMENT 'the item',
    `item_index` int NOT NULL COMMENT 'its integer, 0, 1, 2, …; append-only',
    `tombstoned_on` date COMMENT 'the item was withdrawn for good on this date; NULL while it lives',
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …'
) USING DELTA COMMENT 'One item ever seen, with an integer that never changes';
