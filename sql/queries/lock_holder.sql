-- Whom `ticketd migrate` waits for: who holds its own lock, else the oldest of the sessions that use what is in schema vcc.
SELECT format('session %s, role %s, application "%s", since %s', a.pid, a.usename, a.application_name,
              to_char(coalesce(a.xact_start, a.backend_start), 'YYYY-MM-DD HH24:MI:SS TZ'))
  FROM pg_locks l
  JOIN pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_class c ON c.oid = l.relation AND c.relnamespace = to_regnamespace('vcc')
 WHERE l.granted AND l.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (c.oid IS NOT NULL OR l.locktype = 'advisory' AND l.classid::bigint << 32 | l.objid::bigint = 8243910057)
 ORDER BY l.locktype = 'advisory' DESC, a.xact_start LIMIT 1
