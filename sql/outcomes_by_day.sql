-- One day on which a list was served, with its headline figure, yesterday's popularity beside it, and the trend.
-- `value` is the figure named `headline` (NDCG of the first k, mean over users who did something the list could have held), `low` and
-- `high` its 95 % interval; NULL where nobody did.  `gain` is the paired difference to `popularity`.  `came_true` is the share of all
-- served lists of which something came true, users who did nothing included.  `trend` is the mean of `value` over this and the six
-- whole days before, `trend_low` and `trend_high` its 95 % band by their spread (NULL for one day).  A day that is not whole has no
-- trend yet, and takes part in none.
WITH figures AS (
    SELECT
        o.*,
        f.value,
        f.low,
        f.high,
        p.value AS popularity,
        g.value AS gain,
        g.low AS gain_low,
        g.high AS gain_high,
        c.value AS came_true,
        CASE WHEN o.is_whole THEN f.value END AS settled
    FROM outcomes AS o
    LEFT JOIN metrics AS f
        ON f.run = o.run AND f.name = o.headline AND f.slice = '' AND f.model = 'published' AND f.versus = ''
    LEFT JOIN metrics AS p
        ON p.run = o.run AND p.name = o.headline AND p.slice = '' AND p.model = 'popularity_yesterday' AND p.versus = ''
    LEFT JOIN metrics AS g
        ON g.run = o.run AND g.name = o.headline AND g.slice = '' AND g.model = 'published' AND g.versus = 'popularity_yesterday'
    LEFT JOIN metrics AS c
        ON c.run = o.run AND c.name LIKE 'came_true@%' AND c.slice = '' AND c.model = 'published' AND c.versus = ''
),
trends AS (
    SELECT
        *,
        avg(settled) OVER recent AS trend,
        1.96E0 * stddev_samp(settled) OVER recent / sqrt(count(settled) OVER recent) AS reach
    FROM figures
    WINDOW recent AS (PARTITION BY list_name, is_whole ORDER BY served_on ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)
)
SELECT
    served_on,
    list_name,
    run_date,
    run_date < served_on AS served_again,
    is_whole,
    model_version,
    n_lists,
    n_active,
    n_judged,
    n_shared,
    headline,
    value,
    low,
    high,
    popularity,
    gain,
    gain_low,
    gain_high,
    came_true,
    round(trend, 9) AS trend,
    round(trend - reach, 9) AS trend_low,
    round(trend + reach, 9) AS trend_high
FROM trends
