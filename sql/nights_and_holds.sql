-- One decision about one attempt at one night, as it stands in `nights`.
-- `is_last_word` marks the newest decision of its run_date and list; `rows_now` is what `recommendations` holds for that run_date
-- and list today (0 after a hold).  `audit` is JSON: check -> {ok, value, limit}.
SELECT
    n.run_date,
    n.list_name,
    n.attempt,
    n.decision,
    n.decided_by,
    n.reason,
    n.decided_at,
    row_number() OVER (PARTITION BY n.run_date, n.list_name ORDER BY n.decided_at DESC, n.attempt DESC) = 1 AS is_last_word,
    coalesce(r.n_rows, 0) AS rows_now,
    n.n_rows AS rows_staged,
    n.n_lists AS lists_staged,
    n.as_of,
    n.serve_at,
    n.max_batch,
    n.model_version,
    n.delta_version,
    n.content_hash,
    n.audit
FROM nights AS n
LEFT JOIN (SELECT run_date, list_name, count(*) AS n_rows FROM recommendations GROUP BY run_date, list_name) AS r
    ON r.run_date = n.run_date AND r.list_name = n.list_name
