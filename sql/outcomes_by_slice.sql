-- One figure of one slice of a day's lists, with yesterday's popularity beside it.
-- `kind` and `part` name the slice: history, segment, model, age (of what came true), source (of places in the lists), audience, shown,
-- truth; both are '' for all lists.  `gain` is the paired difference to `popularity` (NULL where that has no such figure) with its 95 %
-- interval and the p that there is none.  `n` counts lists.
SELECT
    o.served_on,
    o.list_name,
    f.name,
    split_part(f.slice, '=', 1) AS kind,
    CASE WHEN f.slice LIKE '%=%' THEN substr(f.slice, length(split_part(f.slice, '=', 1)) + 2) ELSE '' END AS part,
    f.n,
    f.value,
    f.low,
    f.high,
    p.value AS popularity,
    g.value AS gain,
    g.low AS gain_low,
    g.high AS gain_high,
    g.p
FROM outcomes AS o
JOIN metrics AS f ON f.run = o.run AND f.model = 'published' AND f.versus = ''
LEFT JOIN metrics AS p
    ON p.run = o.run AND p.name = f.name AND p.slice = f.slice AND p.model = 'popularity_yesterday' AND p.versus = ''
LEFT JOIN metrics AS g
    ON g.run = o.run AND g.name = f.name AND g.slice = f.slice AND g.model = 'published' AND g.versus = 'popularity_yesterday'
