CREATE TABLE IF NOT EXISTS delta.`ROOT/blocks` (
    `user_id` string COMMENT 'the user; NULL = everybody',
    `item_id` string NOT NULL COMMENT 'the item',
    `blocked_from` timestamp NOT NULL COMMENT 'from this instant on, UTC',
    `blocked_until` timestamp COMMENT 'until this instant, exclusive; NULL = for good',
    `reason` string NOT NULL COMMENT 'why, in words'
) USING DELTA COMMENT 'One decision not to recommend an item, to everybody or to one user';
