-- One item whose place in one list differs between the current night and the published night before.
-- `change`: entered, left, up or down; `rank` is NULL where the item left, `previous_rank` where it entered.  An item that kept its
-- rank has no row.  A user who got a first list shows entered only, one who lost the list (dormant, opted out) left only.
WITH today AS (
    SELECT n.run_date, n.previous_run_date, r.list_name, r.audience, r.user_id, r.item_id, r.rank, r.serve_at
    FROM recommendations AS r
    JOIN published_nights AS n ON n.list_name = r.list_name AND n.run_date = r.run_date
    WHERE n.nights_ago = 0
),
yesterday AS (
    SELECT n.run_date, n.previous_run_date, r.list_name, r.audience, r.user_id, r.item_id, r.rank, r.serve_at
    FROM recommendations AS r
    JOIN published_nights AS n ON n.list_name = r.list_name AND n.previous_run_date = r.run_date
    WHERE n.nights_ago = 0
),
places AS (
    SELECT
        coalesce(t.list_name, y.list_name) AS list_name,
        coalesce(t.audience, y.audience) AS audience,
        coalesce(t.user_id, y.user_id) AS user_id,
        coalesce(t.item_id, y.item_id) AS item_id,
        coalesce(t.run_date, y.run_date) AS run_date,
        coalesce(t.previous_run_date, y.previous_run_date) AS previous_run_date,
        coalesce(t.serve_at, y.serve_at) AS shown_at,
        y.rank AS previous_rank,
        t.rank AS rank
    FROM today AS t
    FULL OUTER JOIN yesterday AS y
        ON y.list_name = t.list_name AND y.audience = t.audience AND y.user_id = t.user_id AND y.item_id = t.item_id
)
SELECT
    p.run_date,
    p.previous_run_date,
    p.list_name,
    p.audience,
    p.user_id,
    p.item_id,
    t.title,
    CASE
        WHEN p.previous_rank IS NULL THEN 'entered'
        WHEN p.rank IS NULL THEN 'left'
        WHEN p.rank < p.previous_rank THEN 'up'
        ELSE 'down'
    END AS change,
    p.previous_rank,
    p.rank
FROM places AS p
LEFT JOIN item_titles AS t
    ON t.item_id = p.item_id
    AND (t.title_from IS NULL OR t.title_from <= p.shown_at)
    AND (t.title_until IS NULL OR p.shown_at < t.title_until)
WHERE p.rank IS DISTINCT FROM p.previous_rank
