-- One list on one published night, for one segment of users (scope = 'segment') or all of them together (scope = 'everybody').
-- A user counts in the segment of that night; a segment's shared list counts once, in its own segment, beside the users' lists.
-- `n_items` different items were listed: `catalogue_share` of the item vocabulary that is not withdrawn today.  `fallback_share` is
-- the share of rows in users' lists that no model ranked, as the audit counts it; NULL where there is no user's list.
WITH listed AS (
    SELECT
        r.run_date,
        r.list_name,
        CASE WHEN r.audience = 'segment' THEN r.user_id ELSE coalesce(u.segment, 'all') END AS segment,
        r.audience,
        r.rank,
        r.item_id,
        r.source
    FROM recommendations AS r
    LEFT JOIN user_segments AS u
        ON r.audience = 'user'
        AND u.user_id = r.user_id
        AND (u.segment_from IS NULL OR u.segment_from <= r.serve_at)
        AND (u.segment_until IS NULL OR r.serve_at < u.segment_until)
)
SELECT
    run_date,
    list_name,
    CASE WHEN grouping(segment) = 1 THEN 'everybody' ELSE 'segment' END AS scope,
    segment,
    -- ranks start at 1 and have no gaps: rows of rank 1 are lists
    count(CASE WHEN rank = 1 AND audience = 'user' THEN 1 END) AS n_user_lists,
    count(CASE WHEN rank = 1 AND audience = 'segment' THEN 1 END) AS n_segment_lists,
    count(*) AS n_rows,
    count(DISTINCT item_id) AS n_items,
    count(DISTINCT item_id) / (SELECT nullif(count(*), 0) FROM item_vocabulary WHERE tombstoned_on IS NULL) AS catalogue_share,
    -- avg passes over NULL: shared lists do not count
    avg(CASE WHEN audience <> 'user' THEN NULL WHEN source = 'model' THEN 0.0E0 ELSE 1.0E0 END) AS fallback_share
FROM listed
GROUP BY GROUPING SETS ((run_date, list_name), (run_date, list_name, segment))
