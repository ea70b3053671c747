CREATE TABLE IF NOT EXISTS delta.`ROOT/items` (
    `item_id` string NOT NULL COMMENT 'the item',
    `valid_from` timestamp NOT NULL COMMENT 'from this instant on the row holds, UTC',
    `valid_to` timestamp COMMENT 'until this instant, exclusive; NULL = until further notice',
    `title` string COMMENT 'title as shown; NULL when the log has none',
    `description` string COMMENT 'longer text',
    `category` string COMMENT 'category path, parts joined by /',
    `brand` string COMMENT 'brand, publisher or artist',
    `price` double COMMENT 'price in the log’s currency',
    `lat` double COMMENT 'place of the item, degrees north',
    `lon` double COMMENT 'place of the item, degrees east',
    `available_from` timestamp COMMENT 'may be recommended from this instant on; NULL = always',
    `available_until` timestamp COMMENT 'may be recommended before this instant; NULL = always',
    `vectors` map<string,array<float>> COMMENT 'vectors by modality (image, audio, …); NULL when none',
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …'
) USING DELTA COMMENT 'One catalogue item in one validity interval';
