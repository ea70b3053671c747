-- One user in one interval for which the segment held; users without a segment are in 'all', as in `recommendations`.
-- `zone` is the user's time zone, NULL = the log's default zone.
-- The segment at an instant t is the row with (segment_from IS NULL OR segment_from <= t) AND (segment_until IS NULL OR t < segment_until).
SELECT
    user_id,
    coalesce(nullif(segment, ''), 'all') AS segment,
    opt_out,
    zone,
    CASE WHEN lag(valid_from) OVER (PARTITION BY user_id ORDER BY valid_from) IS NOT NULL THEN valid_from END AS segment_from,
    lead(valid_from) OVER (PARTITION BY user_id ORDER BY valid_from) AS segment_until
FROM users
