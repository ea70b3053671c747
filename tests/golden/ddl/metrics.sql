CREATE TABLE IF NOT EXISTS delta.`ROOT/metrics` (
    `run` string NOT NULL COMMENT 'what was measured: a model version, a night, a comparison',
    `name` string NOT NULL COMMENT 'name of the figure, e.g. ndcg@10',
    `slice` string NOT NULL COMMENT 'part of the population; ’’ = all',
    `value` double NOT NULL COMMENT 'the figure',
    `low` double COMMENT 'lower end of its 95 % interval; NULL when none',
    `high` double COMMENT 'upper end',
    `n` bigint NOT NULL COMMENT 'units behind it',
    `measured_at` timestamp NOT NULL COMMENT 'when, UTC'
) USING DELTA COMMENT 'One number about one model, night or outcome';
