-- How many are closed within their deadline, by week? The deadline is that of now: moving it makes it met.
SELECT CAST(date_trunc('week', closed_at) AS date) AS week, count(*) AS closed, count(*) FILTER (WHERE deadline_met) AS in_time,
       round(100.0 * count(*) FILTER (WHERE deadline_met) / count(*), 1) AS percent
  FROM vcc.resolution_times
 WHERE deadline_met IS NOT NULL
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND agent_user_name = {{agent}}]]
   [[AND closed_at >= CAST({{since}} AS date)]]
   [[AND closed_at < CAST({{until}} AS date) + 1]]
 GROUP BY week
 ORDER BY week
