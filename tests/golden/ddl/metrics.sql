CREATE TABLE IF NOT EXISTS delta.`ROOT/metrics` (
    `run` string NOT NULL COMMENT 'what was measured: an evaluation, a contest, a promotion, a day’s outcome (outcome-<list>-<date>)',
    `model` string NOT NULL COMMENT 'the model (or recipe) measured; ’’ = none; of a day’s outcome: published (the lists that were served) or popularity_yesterday',
    `versus` string NOT NULL COMMENT 'the model it is compared with on the same lists: value is the difference; ’’ = none',
    `name` string NOT NULL COMMENT 'name of the figure, e.g. ndcg@10',
    `slice` string NOT NULL COMMENT 'part of the lists, e.g. history=5-19, night=2024-03-30; of a contest also seed=2, and seeds=3 (mean, least and greatest); ’’ = all',
    `value` double NOT NULL COMMENT 'the figure',
    `low` double COMMENT 'lower end of its 95 % interval; NULL when none',
    `high` double COMMENT 'upper end',
    `p` double COMMENT 'of a difference: two-sided p that there is none; NULL otherwise',
    `n` bigint NOT NULL COMMENT 'units behind it',
    `measured_at` timestamp NOT NULL COMMENT 'when, UTC'
) USING DELTA COMMENT 'One number about one model, night or outcome';
