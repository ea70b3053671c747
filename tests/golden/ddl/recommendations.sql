CREATE TABLE IF NOT EXISTS delta.`ROOT/recommendations` (
    `run_date` date NOT NULL COMMENT 'local date, in the configured zone, on which the list is first served',
    `list_name` string NOT NULL COMMENT 'which list (a product of its own), e.g. main',
    `audience` string NOT NULL COMMENT 'user, or segment: a list stored once for all dormant users of a segment',
    `user_id` string NOT NULL COMMENT 'the user; for audience = segment the segment’s name',
    `rank` int NOT NULL COMMENT '1, 2, 3, … without gaps',
    `item_id` string NOT NULL COMMENT 'the recommended item',
    `score` double NOT NULL COMMENT 'higher is better; comparable inside one list among rows of one source only',
    `source` string NOT NULL COMMENT 'model, segment, fallback or rule',
    `reason_code` string NOT NULL COMMENT 'repeat, neighbour, popular, similar_users, taste; model_error: popular, because the model failed on this user',
    `evidence_item_id` string COMMENT 'item of the past event that spoke most for this one; NULL when none did',
    `evidence_ts` timestamp COMMENT 'instant of that event, UTC; NULL when none',
    `model_version` string NOT NULL COMMENT 'the model that made the list',
    `scored_as_of` timestamp NOT NULL COMMENT 'nothing at or after this instant was known to the list, UTC',
    `serve_at` timestamp NOT NULL COMMENT 'the instant gaps, clocks and decays were measured to, UTC'
) USING DELTA PARTITIONED BY (run_date, list_name) COMMENT 'One item in one published list' TBLPROPERTIES (
    'delta.constraints.rank_positive' = 'rank >= 1',
    'delta.constraints.score_finite' = 'NOT isnan(score) AND abs(score) < 1e300',
    'delta.constraints.audience_known' = 'audience IN (\'user\', \'segment\')',
    'delta.constraints.source_known' = 'source IN (\'model\', \'segment\', \'fallback\', \'rule\')');
