-- One user with fewer than five events in `sequences`, and which current list this user gets.
-- `gets`: own (a list of their own), segment (their segment's shared list), all (the list shared by everybody without one), or nothing
-- (opted out, or no such list).  Users without any event are here as far as `users` knows them.  Segment and opt-out are the newest known.
WITH known AS (
    SELECT user_id FROM user_segments
    UNION
    SELECT user_id FROM sequences
),
lists AS (
    SELECT DISTINCT run_date, list_name, audience, user_id FROM current_lists
),
users_now AS (
    SELECT
        k.user_id,
        coalesce(s.n_events, 0) AS n_events,
        s.last_ts AS last_event_at,
        coalesce(u.segment, 'all') AS segment,
        coalesce(u.opt_out, false) AS opt_out
    FROM known AS k
    LEFT JOIN sequences AS s ON s.user_id = k.user_id
    LEFT JOIN user_segments AS u ON u.user_id = k.user_id AND u.segment_until IS NULL
    WHERE coalesce(s.n_events, 0) < 5
)
SELECT
    n.run_date,
    n.list_name,
    k.user_id,
    k.n_events,
    k.last_event_at,
    k.segment,
    k.opt_out,
    CASE
        WHEN own.user_id IS NOT NULL THEN 'own'
        WHEN k.opt_out THEN 'nothing'
        WHEN shared.user_id IS NOT NULL THEN CASE WHEN k.segment = 'all' THEN 'all' ELSE 'segment' END
        WHEN everybody.user_id IS NOT NULL THEN 'all'
        ELSE 'nothing'
    END AS gets
FROM users_now AS k
CROSS JOIN (SELECT list_name, run_date FROM published_nights WHERE nights_ago = 0) AS n
LEFT JOIN lists AS own ON own.list_name = n.list_name AND own.audience = 'user' AND own.user_id = k.user_id
LEFT JOIN lists AS shared ON shared.list_name = n.list_name AND shared.audience = 'segment' AND shared.user_id = k.segment
LEFT JOIN lists AS everybody ON everybody.list_name = n.list_name AND everybody.audience = 'segment' AND everybody.user_id = 'all'
