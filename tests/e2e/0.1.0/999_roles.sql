-- Runs at the end of every `ticketd migrate`: the two group roles and what they may do.
-- Where the caller may not create roles and they are missing, nothing is granted: run migrate again once they exist.
DO $$
DECLARE
    role  text;
BEGIN
    FOREACH role IN ARRAY '{vcc_writer, vcc_reader}'::text[] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role);
        CONTINUE WHEN NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- a migrate in another database of this server was faster
        END;
    END LOOP;

    -- Functions are executable by everyone unless this is taken away.
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vcc FROM PUBLIC;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcc_writer') THEN
        GRANT USAGE ON SCHEMA vcc TO vcc_writer;
        GRANT EXECUTE ON FUNCTION vcc.schema_version, vcc.apply_events, vcc.upsert_ticket, vcc.delete_ticket,
            vcc.reject_event, vcc.list_rejected, vcc.forget_rejected, vcc.begin_import, vcc.prepare_journal TO vcc_writer;
    ELSE
        RAISE WARNING 'role vcc_writer does not exist and % may not create roles', current_user;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcc_reader') THEN
        GRANT USAGE ON SCHEMA vcc TO vcc_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA vcc TO vcc_reader;
        GRANT EXECUTE ON FUNCTION vcc.schema_version, vcc.report, vcc.report_ticket TO vcc_reader;
    ELSE
        RAISE WARNING 'role vcc_reader does not exist and % may not create roles', current_user;
    END IF;
END
$$;
