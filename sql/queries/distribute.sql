-- Runs in `ticketd migrate` where sql/citus/citus.sql has distributed vcc.tickets: what is not distributed yet is, beside it.
-- What only migrate and import look at stays on the coordinator.
--
-- What an event does is done on the shard that has its project, by functions of the same text in which that shard's tables
-- are named: PostgreSQL plans them as where nothing is distributed, once a session. The function of the plain name becomes
-- one that is sent to the node of the project and calls them there; its text is kept as the one `of_shard`. Split shards
-- need another migrate.
DO $$
DECLARE
    tables     CONSTANT text[] := '{tickets, ticket_events, deleted_tickets, ticket_adds, rejected_events, journal_horizon,
                                   ticket_metrics_kept, deadline_cycles_kept, tickets_kept}';
    on_each    CONSTANT text[] := '{calendars, calendar_hours, calendar_exceptions, project_calendars, calendar_slots}';  -- node
    functions  CONSTANT jsonb := '{"apply_events": "project", "reject_event": "project_id", "erase_rows": "project",
                                  "compare_journal": "project", "rebuild_ticket": "project", "late_events": null, "fold_journal": null}';
    names      CONSTANT text := (SELECT string_agg(f, '|') FROM jsonb_object_keys(functions) f);
    part       text;
    source     text;
    rule       record;
    shard      record;
BEGIN
    -- Numbers of the clock, for of a sequence every node has a part of its own.
    IF EXISTS (SELECT FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                WHERE d.adrelid = 'vcc.ticket_events'::regclass AND a.attname = 'applied_no'
                  AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval%') THEN
        ALTER TABLE vcc.ticket_events ALTER applied_no SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    END IF;
    FOREACH part IN ARRAY tables LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = format('vcc.%I', part)::regclass);
        IF part = 'journal_horizon' THEN  -- which every late event reads: each node has it
            PERFORM create_reference_table('vcc.journal_horizon');
        ELSE
            PERFORM create_distributed_table(format('vcc.%I', part), 'project_id', colocate_with => 'vcc.tickets');
        END IF;
    END LOOP;

    FOREACH part IN ARRAY on_each LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = format('vcc.%I', part)::regclass);
        FOR rule IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = format('vcc.%I', part)::regclass LOOP
            EXECUTE format('DROP TRIGGER %I ON vcc.%I', rule.tgname, part);  -- which Citus does not allow
        END LOOP;
        PERFORM create_reference_table(format('vcc.%I', part));
    END LOOP;

    -- They are called beside rows of a shard, where Citus plans nothing: so they name the copy that each node has.
    FOR rule IN
        SELECT pg_get_functiondef(p.oid) AS source FROM pg_proc p
         WHERE p.pronamespace = 'vcc'::regnamespace AND p.proname IN ('calendar_of', 'business_clock', 'add_business_seconds')
    LOOP
        source := rule.source;
        FOR shard IN SELECT s.shardid, c.relname FROM pg_dist_shard s JOIN pg_class c ON c.oid = s.logicalrelid WHERE c.relname = ANY (on_each) LOOP
            source := regexp_replace(source, format('\yvcc\.%s\y', shard.relname), format('vcc.%s_%s', shard.relname, shard.shardid), 'g');
        END LOOP;
        IF source <> rule.source THEN
            EXECUTE source;
        END IF;
    END LOOP;

    -- The shard of a project, of whose node this is asked: until the end of the transaction it is not moved, split or copied. So
    -- does Citus with what it plans (AcquireMetadataLocks in its source; 5 is SHARE).
    CREATE OR REPLACE FUNCTION vcc.hold_shard(project bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $text$
    DECLARE
        shard  CONSTANT bigint := get_shard_id_for_distribution_column('vcc.tickets', project);
    BEGIN
        PERFORM lock_shard_metadata(5, ARRAY[shard]);
        IF NOT EXISTS (SELECT FROM pg_dist_placement p JOIN pg_dist_local_group g ON g.groupid = p.groupid WHERE p.shardid = shard) THEN
            RAISE serialization_failure USING MESSAGE = 'the project is on another node now';
        END IF;
        RETURN shard;
    END
    $text$;
    COMMENT ON FUNCTION vcc.hold_shard IS 'Which shard a project is in, and keeps it there; a part of vcc.apply_events';

    -- Where the text is new: that of the plain name is the rule.
    FOR rule IN
        SELECT p.oid::regprocedure AS function, p.proname AS name, pg_get_function_arguments(p.oid) AS arguments,
               pg_get_function_result(p.oid) AS result, p.proretset, functions ->> p.proname AS of_project,
               (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) n) AS numbers,
               (SELECT string_agg(quote_ident(p.proargnames[n]), ', ' ORDER BY n) FROM generate_series(1, p.pronargs) n) AS variables
          FROM pg_proc p
         WHERE p.pronamespace = 'vcc'::regnamespace AND functions ? p.proname AND p.prosrc NOT LIKE '%vcc.hold_shard(%'
    LOOP
        FOR part IN
            SELECT p.oid::regprocedure FROM pg_proc p
             WHERE p.pronamespace = 'vcc'::regnamespace AND p.proname ~ ('^' || rule.name || '_(of_shard|\d+)$')
        LOOP
            EXECUTE format('DROP FUNCTION %s', part);
        END LOOP;
        EXECUTE format('ALTER FUNCTION %s RENAME TO %I', rule.function, rule.name || '_of_shard');
        CONTINUE WHEN rule.of_project IS NULL;
        EXECUTE format($call$
            CREATE FUNCTION vcc.%1$I(%2$s) RETURNS %3$s
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS $text$
            BEGIN
                %4$s format('SELECT * FROM vcc.%1$s_%%s(%5$s)', vcc.hold_shard(%6$I)) USING %7$s;
            END
            $text$ $call$,
            rule.name, rule.arguments, rule.result, CASE WHEN rule.proretset THEN 'RETURN QUERY EXECUTE' ELSE 'EXECUTE' END,
            rule.numbers, rule.of_project, rule.variables);
    END LOOP;

    FOR shard IN
        SELECT s.shardid, left(p.proname, -9) || '_' || s.shardid AS name, pg_get_functiondef(p.oid) AS source, ARRAY(
                   SELECT o.shardid FROM unnest(tables) WITH ORDINALITY t (name, n)
                     JOIN pg_dist_shard o ON o.logicalrelid = to_regclass('vcc.' || t.name)
                      AND (o.shardminvalue = s.shardminvalue OR o.shardminvalue IS NULL) ORDER BY t.n) AS of_tables
          FROM pg_dist_shard s, pg_proc p
         WHERE s.logicalrelid = 'vcc.tickets'::regclass
           AND p.pronamespace = 'vcc'::regnamespace AND p.proname LIKE '%\_of\_shard'
    LOOP
        source := regexp_replace(shard.source, '\y(' || names || ')(_of_shard)?\y', '\1_' || shard.shardid, 'g');
        FOR n IN 1..cardinality(tables) LOOP
            source := regexp_replace(source, '\yvcc\.' || tables[n] || '\y', format('vcc.%s_%s', tables[n], shard.of_tables[n]), 'g');
        END LOOP;
        IF NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'vcc'::regnamespace
                          AND p.proname = shard.name AND pg_get_functiondef(p.oid) = source) THEN
            EXECUTE source;
        END IF;
    END LOOP;

    -- Every time, for a function may have been dropped and made. A call of one that has an argument here goes whole to the
    -- node that has that project, in a transaction too; the others are what it calls there.
    FOR rule IN
        SELECT p.oid::regprocedure AS function, functions ->> p.proname AS of_project FROM pg_proc p
         WHERE p.pronamespace = 'vcc'::regnamespace
           AND (functions ->> p.proname IS NOT NULL OR p.proname ~ ('^(' || names || ')_\d+$')
                OR p.proname IN ('merge_extra', 'changed_extra', 'first_event_id', 'speaks_of', 'from_extra', 'describe_value',
                                 'hold_shard', 'calendar_of', 'business_clock', 'business_seconds', 'add_business_seconds'))
    LOOP
        IF rule.of_project IS NULL THEN
            PERFORM create_distributed_function(rule.function);
        ELSE
            PERFORM create_distributed_function(rule.function, rule.of_project, colocate_with => 'vcc.tickets', force_delegation => true);
        END IF;
    END LOOP;
END
$$
