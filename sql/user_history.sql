-- One item in one list of one user on one published night: filter on `user_id` to follow a user through the nights.
-- `first_listed` is the first night on which the item stood in this list of this user, `times_listed` how often it has stood
-- there up to and with this night.  Nights on which the user was dormant have no rows (see current_lists).
SELECT
    r.user_id,
    r.audience,
    r.list_name,
    r.run_date,
    r.rank,
    r.item_id,
    t.title,
    r.score,
    r.source,
    r.reason_code,
    min(r.run_date) OVER (PARTITION BY r.user_id, r.audience, r.list_name, r.item_id) AS first_listed,
    CAST(row_number() OVER (PARTITION BY r.user_id, r.audience, r.list_name, r.item_id ORDER BY r.run_date) AS BIGINT) AS times_listed,
    r.model_version,
    r.scored_as_of,
    r.serve_at
FROM recommendations AS r
LEFT JOIN item_titles AS t
    ON t.item_id = r.item_id
    AND (t.title_from IS NULL OR t.title_from <= r.serve_at)
    AND (t.title_until IS NULL OR r.serve_at < t.title_until)
