-- One catalogue item in one interval for which its title held.
-- The title at an instant t is the row with (title_from IS NULL OR title_from <= t) AND (title_until IS NULL OR t < title_until):
-- exactly one row per catalogued item and instant.  The first title holds from ever, the newest until further notice, so that a
-- list or an event older than the catalogue still shows a name; `items.valid_to` says when an item was withdrawn, not here.
SELECT
    item_id,
    title,
    category,
    available_from,
    available_until,
    CASE WHEN lag(valid_from) OVER (PARTITION BY item_id ORDER BY valid_from) IS NOT NULL THEN valid_from END AS title_from,
    lead(valid_from) OVER (PARTITION BY item_id ORDER BY valid_from) AS title_until
FROM items
