-- One catalogue item without any event in `item_hours`, and in how many current lists it stands.
-- `item_hours` ends at the newest night's as_of: an item whose first event came later is still cold here.  Title, category and
-- availability are the newest known.
SELECT
    i.item_id,
    i.title,
    i.category,
    i.available_from,
    i.available_until,
    coalesce(c.n_lists, 0) AS n_current_lists
FROM item_titles AS i
LEFT JOIN (SELECT item_id, count(*) AS n_lists FROM current_lists GROUP BY item_id) AS c ON c.item_id = i.item_id
WHERE i.title_until IS NULL
    AND NOT EXISTS (SELECT 1 FROM item_hours AS h WHERE h.item_id = i.item_id)
