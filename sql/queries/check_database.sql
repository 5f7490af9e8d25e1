-- What `ticketd check` says of a database that could be reached, and of the role: name, grade ('ok', 'note', 'wrong'),
-- words. $1 is the time on the host. Of the catalogs alone, as the schema may be missing.
WITH vcc AS (
    SELECT oid, has_schema_privilege(oid, 'USAGE') AS usable FROM pg_namespace WHERE nspname = 'vcc'
), forbidden AS (  -- what vcc_writer may execute and this role may not
    SELECT string_agg(p.proname, ', ' ORDER BY p.proname) AS names
      FROM pg_proc p
      JOIN vcc ON vcc.oid = p.pronamespace
      JOIN pg_roles writer ON writer.rolname = 'vcc_writer'
     WHERE has_function_privilege(writer.oid, p.oid, 'EXECUTE')
       AND NOT (vcc.usable AND has_function_privilege(p.oid, 'EXECUTE'))
), journal AS (
    SELECT count(*) FILTER (WHERE child.relname ~ '\d{4}_\d\d$'
               AND right(child.relname, 7) > to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')) AS months_ahead,
           coalesce(max(child.reltuples) FILTER (WHERE child.relname = 'ticket_events_default'), 0) AS strays
      FROM pg_inherits i
      JOIN pg_class child ON child.oid = i.inhrelid
      JOIN pg_class parent ON parent.oid = i.inhparent
      JOIN vcc ON vcc.oid = parent.relnamespace
     WHERE parent.relname = 'ticket_events'
), clock AS (
    SELECT round(extract(epoch FROM clock_timestamp() - $1::timestamptz))::bigint AS ahead
)
SELECT 'database', CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean THEN 'wrong' ELSE 'ok' END,
       concat(CASE
           WHEN pg_is_in_recovery() THEN 'it is a standby, which cannot be written to: name the primary, or all hosts and '
               'target_session_attrs=read-write: '
           WHEN current_setting('transaction_read_only')::boolean THEN
               'it is read-only: see default_transaction_read_only of the server, the database and the role: '
       END,
       'PostgreSQL ', current_setting('server_version'), ', database ', current_database(), ', role ', current_user,
       CASE WHEN inet_server_addr() IS NULL THEN ', by unix socket'
            ELSE concat(' at ', host(inet_server_addr()), ':', inet_server_port()) END,
       (SELECT CASE WHEN ssl THEN ', ' || version WHEN inet_server_addr() IS NOT NULL THEN ', without TLS' END
          FROM pg_stat_ssl WHERE pid = pg_backend_pid()))
UNION ALL
SELECT 'encoding', CASE current_setting('server_encoding') WHEN 'UTF8' THEN 'ok' ELSE 'wrong' END,
       current_setting('server_encoding') || CASE current_setting('server_encoding') WHEN 'UTF8' THEN '' ELSE
           ' cannot hold all that is sent: make a database with ENCODING ''UTF8''' END
UNION ALL
SELECT 'durability', CASE WHEN current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean THEN 'ok' ELSE 'note' END,
       CASE WHEN NOT current_setting('fsync')::boolean THEN 'fsync is off: events that are stored are lost if the machine of the database fails'
            WHEN NOT current_setting('full_page_writes')::boolean THEN 'full_page_writes is off: a page that is half written is lost'
            WHEN current_setting('synchronous_commit') = 'off' THEN 'synchronous_commit is off: ticketd sets it on for its events'
            ELSE 'what is stored is on disk' END
UNION ALL
SELECT 'clock', CASE WHEN abs(ahead) > 60 THEN 'wrong' WHEN abs(ahead) > 5 THEN 'note' ELSE 'ok' END,
       CASE WHEN abs(ahead) > 5 THEN format('the clock of the database is %s s %s of this host''s: let NTP set both', abs(ahead),
           CASE WHEN ahead > 0 THEN 'ahead' ELSE 'behind' END) ELSE 'as on this host' END
  FROM clock
UNION ALL
SELECT 'rights', CASE
           WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcc_writer') OR names IS NOT NULL THEN 'wrong'
           WHEN rolsuper THEN 'note'
           ELSE 'ok' END, CASE
           WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcc_writer') THEN
               'there is no role vcc_writer: run ticketd migrate as a role that may create roles'
           WHEN names IS NOT NULL THEN format('GRANT vcc_writer TO %I, which may not execute %s', current_user, names)
           WHEN rolsuper THEN format('%I is a superuser, and needs to be no more than a member of vcc_writer', current_user)
           ELSE format('%I may do what the handler does', current_user) END
  FROM forbidden, pg_roles
 WHERE rolname = current_user AND EXISTS (SELECT FROM vcc)
UNION ALL
SELECT 'journal', CASE WHEN months_ahead = 0 OR strays > 0 THEN 'note' ELSE 'ok' END,
       format('partitions for %s months ahead', months_ahead)
       || CASE WHEN strays > 0 THEN format('; about %s rows in the default partition: SELECT vcc.prepare_journal() as its owner', strays)
               WHEN months_ahead = 0 THEN ': the handler makes them when it connects' ELSE '' END
  FROM journal
 WHERE EXISTS (SELECT FROM vcc)
