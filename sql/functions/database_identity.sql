-- Which database this is: for the spool, whose events are meant for one. The second part survives a dump and pg_upgrade.
CREATE OR REPLACE FUNCTION vcc.database_identity() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat(current_database(), ', made ', to_char(min(applied_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
      FROM vcc.migrations
$$;
COMMENT ON FUNCTION vcc.database_identity IS 'The name of this database and when its schema was made: a spool belongs to one';
