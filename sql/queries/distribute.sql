-- Runs at the end of `ticketd migrate` where sql/citus/citus.sql has distributed vcc.tickets: what is not distributed yet is,
-- beside it. What only migrate and import look at stays on the coordinator.
DO $$
DECLARE
    part  text;
    made  record;
BEGIN
    -- Numbers of the clock, for of a sequence every node has a part of its own.
    IF EXISTS (SELECT FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                WHERE d.adrelid = 'vcc.ticket_events'::regclass AND a.attname = 'applied_no'
                  AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval%') THEN
        ALTER TABLE vcc.ticket_events ALTER applied_no SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    END IF;
    FOREACH part IN ARRAY '{ticket_events, deleted_tickets, ticket_adds, rejected_events, journal_horizon}'::text[] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = format('vcc.%I', part)::regclass);
        IF part = 'journal_horizon' THEN  -- which every late event reads: each node has it
            PERFORM create_reference_table('vcc.journal_horizon');
        ELSE
            PERFORM create_distributed_table(format('vcc.%I', part), 'project_id', colocate_with => 'vcc.tickets');
        END IF;
    END LOOP;
    -- Every time, for a function may have been dropped and made. A call of one that has an argument here goes whole to the
    -- node that has that project; the others are what it calls there.
    FOR made IN
        SELECT p.oid::regprocedure AS function, d.argument
          FROM (VALUES ('apply_events', 'project'), ('reject_event', 'project_id'), ('late_events', NULL), ('merge_extra', NULL),
                       ('changed_extra', NULL), ('first_event_id', NULL)) d (name, argument)
          JOIN pg_proc p ON p.pronamespace = 'vcc'::regnamespace AND p.proname = d.name
    LOOP
        IF made.argument IS NULL THEN
            PERFORM create_distributed_function(made.function);
        ELSE
            PERFORM create_distributed_function(made.function, made.argument, colocate_with => 'vcc.tickets');
        END IF;
    END LOOP;
END
$$
