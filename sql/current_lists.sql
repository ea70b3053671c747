-- One item in one current list: the newest published run_date of every list_name.
-- A user's own list has audience = 'user'.  Dormant users have no rows: theirs is the list with audience = 'segment' and their
-- segment's name in `user_id` ('all' for users without a segment).  `title` is the one shown at `serve_at`.
SELECT
    r.run_date,
    r.list_name,
    r.audience,
    r.user_id,
    r.rank,
    r.item_id,
    t.title,
    t.category,
    r.score,
    r.source,
    r.reason_code,
    r.evidence_item_id,
    r.evidence_ts,
    r.model_version,
    r.scored_as_of,
    r.serve_at
FROM recommendations AS r
JOIN published_nights AS n ON n.list_name = r.list_name AND n.run_date = r.run_date
LEFT JOIN item_titles AS t
    ON t.item_id = r.item_id
    AND (t.title_from IS NULL OR t.title_from <= r.serve_at)
    AND (t.title_until IS NULL OR r.serve_at < t.title_until)
WHERE n.nights_ago = 0
