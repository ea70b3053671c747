-- One item in one current list, with what spoke for it.
-- `evidence_item_id` and `evidence_ts` name the past event of the user that spoke most for the item, `evidence_title` is that
-- item's title at that moment, `evidence_days_ago` the whole days from the event to `serve_at`; all NULL where no single event
-- did (popular items, segments' lists).
SELECT
    c.run_date,
    c.list_name,
    c.audience,
    c.user_id,
    c.rank,
    c.item_id,
    c.title,
    c.source,
    c.reason_code,
    c.evidence_item_id,
    e.title AS evidence_title,
    c.evidence_ts,
    CAST(EXTRACT(DAY FROM c.serve_at - c.evidence_ts) AS INT) AS evidence_days_ago,
    c.model_version,
    c.serve_at
FROM current_lists AS c
LEFT JOIN item_titles AS e
    ON e.item_id = c.evidence_item_id
    AND (e.title_from IS NULL OR e.title_from <= c.evidence_ts)
    AND (e.title_until IS NULL OR c.evidence_ts < e.title_until)
