-- How long does it take to close a ticket, by type? A ticket counts once, when it was closed the last time.
SELECT type, count(*) AS closed,
       round(CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM resolution)) / 3600 AS numeric), 1) AS median_hours,
       round(CAST(percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM resolution)) / 3600 AS numeric), 1) AS hours_of_90_percent
  FROM vcc.resolution_times
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND agent_user_name = {{agent}}]]
   [[AND closed_at >= CAST({{since}} AS date)]]
   [[AND closed_at < CAST({{until}} AS date) + 1]]
 GROUP BY type
 ORDER BY median_hours DESC NULLS LAST
