-- One delivery as it came: the payload of an event and what it changed, or the body that was set aside.
--
-- project: of the event; 0, and no ticket: a body.
CREATE OR REPLACE FUNCTION vcc.report_delivery(event uuid, project bigint, ticket bigint) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    most   CONSTANT integer := 20000;  -- characters shown
    body   bytea;
    shown  text;
    journal json;
BEGIN
    IF ticket IS NOT NULL THEN
        SELECT to_json(e) INTO journal FROM vcc.ticket_events e
         WHERE e.project_id = project AND e.ticket_id = ticket AND e.event_id = event;
        shown := jsonb_pretty(journal::jsonb);
    ELSE
        SELECT r.body INTO body FROM vcc.rejected_events r WHERE r.last_event_id = event AND r.project_id = project;
        BEGIN
            shown := convert_from(body, 'UTF8');
        EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
            shown := encode(body, 'escape');
        END;
    END IF;
    RETURN json_build_object('at', now(), 'delivery', left(shown, most), 'of', length(shown));
END
$$;
COMMENT ON FUNCTION vcc.report_delivery IS 'One delivery as it came, as JSON for the dashboard';
