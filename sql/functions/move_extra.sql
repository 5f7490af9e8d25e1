-- Moves values that wait in extra under the names of attributes that have a column, in at most so many tickets behind that
-- one; returns the last of them (NULL: there were no more), how many values moved and how many were kept, for they do not fit
-- the column, or a constraint or trigger of the user's refuses them. `ticketd migrate` calls it, a portion a transaction,
-- where the list of attributes has changed. A value that is in the column already is newer and stays. It is no event: the
-- journal does not tell of it, and last_event_at stays. Ticket by ticket, each named by its key, which Citus can do too.
CREATE OR REPLACE FUNCTION vcc.move_extra(
    INOUT project  bigint,
    INOUT ticket   bigint,
    most           integer,
    zone           text,    -- of times without an offset
    OUT   moved    bigint,
    OUT   kept     bigint
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    attributes  CONSTANT jsonb := '[
        ["{column}", "{type}", "{names}"],
        null]';
    names       CONSTANT text[] := ARRAY(SELECT unnest(string_to_array(a ->> 2, ',')) FROM jsonb_array_elements(attributes) a);
    key         record;
    a           record;
    held        jsonb;
    this        record;
BEGIN
    moved := 0;
    kept := 0;
    FOR key IN
        SELECT t.project_id, t.ticket_id FROM vcc.tickets t
         WHERE (t.project_id, t.ticket_id) > (project, ticket) AND t.extra ?| names
         ORDER BY t.project_id, t.ticket_id LIMIT most
    LOOP
        SELECT t.extra INTO held FROM vcc.tickets t
         WHERE t.project_id = key.project_id AND t.ticket_id = key.ticket_id FOR UPDATE;
        FOR a IN
            SELECT e.value ->> 0 AS attribute, e.value ->> 1 AS type, n.name, held -> n.name AS value
              FROM jsonb_array_elements(attributes) e, unnest(string_to_array(e.value ->> 2, ',')) WITH ORDINALITY n (name, n)
             WHERE held ? n.name
             ORDER BY n.n
        LOOP
            SELECT f.result, f.fits INTO this FROM vcc.from_extra(a.value, a.type, zone) f;
            IF this.fits THEN
                BEGIN
                    EXECUTE format('UPDATE vcc.tickets t SET %1$I = coalesce(t.%1$I, $1::%2$s), extra = t.extra - $2
                                     WHERE t.project_id = $3 AND t.ticket_id = $4', a.attribute, a.type)
                      USING this.result, a.name, key.project_id, key.ticket_id;
                EXCEPTION
                    WHEN lock_not_available OR deadlock_detected OR syntax_error_or_access_rule_violation THEN
                        RAISE;
                    WHEN OTHERS THEN
                        this.fits := false;
                END;
            END IF;
            moved := moved + this.fits::integer;
            kept := kept + (NOT this.fits)::integer;
        END LOOP;
    END LOOP;
    project := key.project_id;
    ticket := key.ticket_id;
END
$$;
COMMENT ON FUNCTION vcc.move_extra IS 'Moves values out of extra into columns that attributes got later, a portion of tickets; for `ticketd migrate`';
