CREATE TABLE IF NOT EXISTS delta.`ROOT/batches` (
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …',
    `log` string NOT NULL COMMENT 'name of the mapping',
    `rows_in` bigint NOT NULL COMMENT 'rows read',
    `rows_accepted` bigint NOT NULL COMMENT 'rows that became events',
    `rows_quarantined` bigint NOT NULL COMMENT 'rows refused',
    `rows_duplicate` bigint NOT NULL COMMENT 'rows merged into another row of this or an earlier batch',
    `min_ts` timestamp COMMENT 'first event of the batch; NULL when it has none',
    `max_ts` timestamp COMMENT 'last event of the batch; NULL when it has none',
    `finished_at` timestamp NOT NULL COMMENT 'when the run ended, UTC'
) USING DELTA COMMENT 'One finished ingest run; written last, so a batch that is here is whole' TBLPROPERTIES (
    'delta.constraints.rows_add_up' = 'rows_in = rows_accepted + rows_quarantined + rows_duplicate');
