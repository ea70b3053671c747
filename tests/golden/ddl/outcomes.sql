CREATE TABLE IF NOT EXISTS delta.`ROOT/outcomes` (
    `served_on` date NOT NULL COMMENT 'local date on which the lists were used',
    `list_name` string NOT NULL COMMENT 'which list',
    `run_date` date NOT NULL COMMENT 'night of these lists; earlier than served_on: that day’s night was held, withdrawn or missed, and older lists were served again',
    `attempt` int NOT NULL COMMENT 'the attempt at that night which was served',
    `model_version` string NOT NULL COMMENT 'the model of that attempt',
    `used_from` timestamp NOT NULL COMMENT 'since when the lists stood: serve_at, or the decision where it fell later on the day, UTC',
    `used_until` timestamp NOT NULL COMMENT 'end of the night’s horizon (fit.horizon after its cut), UTC; events from here on do not count',
    `counted_until` timestamp NOT NULL COMMENT 'how far the log reached when this was counted, UTC; at most used_until',
    `is_whole` boolean NOT NULL COMMENT 'did the log reach used_until?  Figures of days that are not whole will change',
    `n_lists` bigint NOT NULL COMMENT 'users’ own lists that were served',
    `n_active` bigint NOT NULL COMMENT 'of these: users who did something the lists should bring about (target event types)',
    `n_judged` bigint NOT NULL COMMENT 'of these: users who did something a list could have held; the headline is their mean',
    `n_shared` bigint NOT NULL COMMENT 'further users who saw their segment’s list and did something it could have held',
    `headline` string NOT NULL COMMENT 'name in metrics of the figure that people look at first, e.g. ndcg@10',
    `run` string NOT NULL COMMENT 'run of the figures in metrics',
    `signature` string NOT NULL COMMENT 'hash of what was counted: lists, events, rules; while it stays the same the day is not counted again',
    `measured_at` timestamp NOT NULL COMMENT 'when, UTC'
) USING DELTA COMMENT 'One day on which a list was served, held against what its users then did; its figures are in metrics under run' TBLPROPERTIES (
    'delta.constraints.window_not_empty' = 'used_until > used_from',
    'delta.constraints.counts_nested' = 'n_judged <= n_active AND n_active <= n_lists');
