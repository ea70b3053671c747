CREATE TABLE IF NOT EXISTS delta.`ROOT/nights` (
    `run_date` date NOT NULL COMMENT 'local date on which the list is first served',
    `list_name` string NOT NULL COMMENT 'which list',
    `attempt` int NOT NULL COMMENT '1, 2, 3, …; a re-run keeps its number, --refresh takes a new one',
    `as_of` timestamp NOT NULL COMMENT 'knowledge cut, UTC',
    `serve_at` timestamp NOT NULL COMMENT 'when the list is used, UTC',
    `max_batch` bigint NOT NULL COMMENT 'highest batch the night knows',
    `item_tables` string NOT NULL COMMENT 'version of the item tables',
    `model_version` string NOT NULL COMMENT 'the model',
    `decision` string NOT NULL COMMENT 'started (not decided yet), published, held, released (published by a person’s decision) or withdrawn (held by a person after it was published)',
    `decided_by` string NOT NULL COMMENT 'night, audit, or the person’s login',
    `reason` string NOT NULL COMMENT 'why, in words',
    `audit` string NOT NULL COMMENT 'results of the audit, JSON: check -> {ok, value, limit}',
    `n_lists` bigint NOT NULL COMMENT 'lists staged',
    `n_rows` bigint NOT NULL COMMENT 'rows staged',
    `content_hash` string NOT NULL COMMENT 'order-free hash of the staged rows, hex',
    `delta_version` bigint COMMENT 'version of recommendations that holds the night; NULL when held',
    `config_hash` string NOT NULL COMMENT 'hash of the configuration',
    `code_version` string NOT NULL COMMENT 'version of this package',
    `decided_at` timestamp NOT NULL COMMENT 'when the decision fell, UTC'
) USING DELTA COMMENT 'One attempt at one night: what it knew, what the audit said, what was decided' TBLPROPERTIES (
    'delta.constraints.decision_known' = 'decision IN (\'started\', \'published\', \'held\', \'released\', \'withdrawn\')');
