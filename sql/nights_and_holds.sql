-- One decision about one attempt at one night; an attempt that was started and never decided (it runs, or was killed) has one row too.
-- `is_last_word` marks the newest decision on its run_date and list; `rows_now` is what `recommendations` holds for that run_date
-- and list today (0 after a hold).  `audit` is JSON: check -> {ok, value, limit}.
WITH attempts AS (
    SELECT
        *,
        decision <> 'started' AS is_decision,
        max(CASE WHEN decision <> 'started' THEN 1 ELSE 0 END) OVER (PARTITION BY run_date, list_name, attempt) AS is_decided,
        row_number() OVER (
            PARTITION BY run_date, list_name
            ORDER BY CASE WHEN decision = 'started' THEN 1 ELSE 0 END, decided_at DESC, attempt DESC
        ) AS place
    FROM nights
)
SELECT
    a.run_date,
    a.list_name,
    a.attempt,
    a.decision,
    a.decided_by,
    a.reason,
    a.decided_at,
    a.is_decision AND a.place = 1 AS is_last_word,
    coalesce(r.n_rows, 0) AS rows_now,
    a.n_rows AS rows_staged,
    a.n_lists AS lists_staged,
    a.as_of,
    a.serve_at,
    a.max_batch,
    a.model_version,
    a.delta_version,
    a.content_hash,
    a.audit
FROM attempts AS a
LEFT JOIN (SELECT run_date, list_name, count(*) AS n_rows FROM recommendations GROUP BY run_date, list_name) AS r
    ON r.run_date = a.run_date AND r.list_name = a.list_name
WHERE a.is_decision OR a.is_decided = 0
