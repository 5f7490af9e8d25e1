-- What came and went, by day? The days are those of the login's time zone.
SELECT day, sum(opened) AS opened, sum(reopened) AS reopened, sum(closed) AS closed, sum(deleted) AS deleted, sum(backlog) AS backlog
  FROM vcc.daily_flow
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND day >= CAST({{since}} AS date)]]
   [[AND day <= CAST({{until}} AS date)]]
 GROUP BY day
 ORDER BY day
