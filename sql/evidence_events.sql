-- One item in one current list, with what it takes to tell its user why in words (docs/sentences.md).
-- The columns of `why`, then `evidence_type`, the event type of the past event behind the item (of several that share user, item and
-- instant the last), and `zone`, the user's time zone at `serve_at`; NULL where the log's default zone holds.
WITH met AS (
    SELECT
        w.run_date, w.list_name, w.audience, w.user_id, w.rank,
        e.event_type,
        row_number() OVER (
            PARTITION BY w.run_date, w.list_name, w.audience, w.user_id, w.rank
            ORDER BY e.source_seq DESC, e.event_id DESC
        ) AS place
    FROM why AS w
    JOIN events AS e ON e.user_id = w.user_id AND e.item_id = w.evidence_item_id AND e.ts = w.evidence_ts
    WHERE w.audience = 'user'
)
SELECT
    w.*,
    m.event_type AS evidence_type,
    u.zone
FROM why AS w
LEFT JOIN met AS m
    ON m.place = 1
    AND m.run_date = w.run_date
    AND m.list_name = w.list_name
    AND m.audience = w.audience
    AND m.user_id = w.user_id
    AND m.rank = w.rank
LEFT JOIN user_segments AS u
    ON w.audience = 'user'
    AND u.user_id = w.user_id
    AND (u.segment_from IS NULL OR u.segment_from <= w.serve_at)
    AND (u.segment_until IS NULL OR w.serve_at < u.segment_until)
