-- Runs at the end of every `ticketd migrate`: the two group roles and what they may do, and what users had granted on what was
-- made anew. Only what is missing is granted. Where the caller may not create roles and they are missing, nothing is: run
-- migrate again once they exist.
DO $$
DECLARE
    of_the_writer CONSTANT text[] := '{schema_version, database_identity, apply_events, reject_event, list_rejected,
                                       forget_rejected, drop_rejected, begin_import, import_ended,
                                       end_import, last_received, prepare_journal, forget_check, rebuild_ticket,
                                       refresh_reports}';
    of_the_reader CONSTANT text[] := '{schema_version, first_event_id, report, report_before, report_list, report_flows,
                                       report_ticket, report_deliveries, report_delivery, compare_journal, calendar_of,
                                       business_clock, business_seconds, add_business_seconds, refresh_reports}';
    role     text;
    command  text;
BEGIN
    FOREACH role IN ARRAY '{vcc_writer, vcc_reader}'::text[] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role);
        IF (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- a migrate in another database of this server was faster
            END;
        ELSE
            RAISE WARNING 'role % does not exist and % may not create roles', role, current_user;
        END IF;
    END LOOP;

    FOR command IN
        -- Functions are executable by everyone unless this is taken away.
        SELECT format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', p.oid::regprocedure)
          FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         WHERE p.pronamespace = 'vcc'::regnamespace AND p.prokind <> 'a' AND a.grantee = 0
         UNION ALL
        SELECT format('GRANT USAGE ON SCHEMA vcc TO %I', r.rolname)
          FROM pg_roles r JOIN pg_namespace n ON n.nspname = 'vcc'
         WHERE r.rolname IN ('vcc_writer', 'vcc_reader')
           AND NOT EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'USAGE')
         UNION ALL
        SELECT format('GRANT EXECUTE ON ROUTINE %s TO %I', p.oid::regprocedure, r.rolname)
          FROM pg_roles r JOIN pg_proc p ON p.pronamespace = 'vcc'::regnamespace
           AND p.proname = ANY (CASE r.rolname WHEN 'vcc_writer' THEN of_the_writer WHEN 'vcc_reader' THEN of_the_reader END)
         WHERE NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = r.oid)
         UNION ALL
        SELECT format('GRANT SELECT ON %s TO vcc_reader', c.oid::regclass)
          FROM pg_roles r JOIN pg_class c ON c.relnamespace = 'vcc'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
         WHERE r.rolname = 'vcc_reader'
           AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'SELECT')
         UNION ALL
        SELECT format('GRANT %s %s ON %s TO %s %s', g.privilege_type, '(' || quote_ident(g.part) || ')', coalesce(
                          'ROUTINE ' || p.oid::regprocedure, c.oid::regclass::text),
                      coalesce(quote_ident(r.rolname), 'PUBLIC'), CASE WHEN g.is_grantable THEN 'WITH GRANT OPTION' END)
          FROM json_to_recordset(current_setting('ticketd.grants')::json)
               g (kind text, name text, part text, grantee oid, privilege_type text, is_grantable boolean)
          LEFT JOIN pg_roles r ON r.oid = g.grantee
          LEFT JOIN pg_proc p ON g.kind = 'function' AND p.pronamespace = 'vcc'::regnamespace AND p.proname = g.name
          LEFT JOIN pg_class c ON g.kind = 'view' AND c.relnamespace = 'vcc'::regnamespace AND c.relname = g.name
          LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = g.part AND NOT t.attisdropped
         WHERE (p.oid IS NOT NULL OR c.oid IS NOT NULL AND (g.part IS NULL OR t.attname IS NOT NULL))
           AND (r.oid IS NOT NULL OR g.grantee = 0)
           AND NOT EXISTS (SELECT FROM aclexplode(CASE WHEN g.part IS NULL THEN coalesce(p.proacl, c.relacl) ELSE t.attacl END) a
                            WHERE a.grantee = g.grantee AND a.privilege_type = g.privilege_type
                              AND a.is_grantable >= g.is_grantable)
    LOOP
        EXECUTE command;
    END LOOP;
END
$$
