-- What the desk counts, each rule by a history whose answer is counted by hand. The random ones are in tests/e2e/test_reports.py.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SET LOCAL timezone = 'UTC';
SELECT plan(61);

-- On 15 February: at this hour.
CREATE FUNCTION pg_temp.at(hour text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT ('2024-02-15 ' || hour || 'Z')::timestamptz $$;
-- Some columns of a view, of one ticket, as text.
CREATE FUNCTION pg_temp.of(ticket bigint, columns text, view text DEFAULT 'ticket_metrics', sorted text DEFAULT '1') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    found  text;
BEGIN
    EXECUTE format($q$
        SELECT string_agg((SELECT string_agg(coalesce(value, '-'), ' ') FROM json_each_text(row_to_json(q))), ', ')
          FROM (SELECT %s FROM vcc.%I WHERE project_id = 1 AND ticket_id = %s ORDER BY %s) q
    $q$, columns, view, ticket, sorted) INTO found;
    RETURN found;
END
$$;

-- 1: desk 09:00, customer 09:20, desk 10:00, closed 10:30, reopened to another state 11:00, closed 11:45; opened at 08:50.
SELECT pg_temp.add(1, '{"status": "new", "subStatus": "waiting4agent", "firstOpenTime": "2024-02-15T08:50:00Z"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(1, '{"agentName": "A"}', at => pg_temp.at('09:05'));
SELECT pg_temp.update(1, '{"subStatus": "waiting4entity", "agentName": "B"}', at => pg_temp.at('09:20'));
SELECT pg_temp.update(1, '{"subStatus": "waiting4agent", "agentName": "A"}', at => pg_temp.at('10:00'));
SELECT is(pg_temp.of(1, 'full_resolution, closed_at, first_resolution'), '- - -', 'open: no resolution');
SELECT pg_temp.update(1, '{"status": "closed", "subStatus": "successful"}', at => pg_temp.at('10:30'));
SELECT is(pg_temp.of(1, 'first_resolution, full_resolution'), '01:40:00 01:40:00', 'first_resolution: opened_at to the first close');
SELECT pg_temp.update(1, '{"status": "park"}', at => pg_temp.at('11:00'));
SELECT is(pg_temp.of(1, 'first_resolution, full_resolution, state'), '01:40:00 - other', 'reopened: the first stays, the full one goes');
SELECT ok(in_state = now() - pg_temp.at('11:00') AND age = now() - pg_temp.at('08:50') AND idle = now() - pg_temp.at('11:00'),
          'age, idle, in_state of an open ticket') FROM vcc.ticket_metrics WHERE ticket_id = 1;
SELECT pg_temp.update(1, '{"status": "closed"}', at => pg_temp.at('11:45'));
SELECT is(pg_temp.of(1, 'first_resolution, full_resolution'), '01:40:00 02:55:00', 'full_resolution: to the last close, time closed among it');
SELECT is(pg_temp.of(1, 'desk_time, customer_time, other_time, open_time'), '01:00:00 00:40:00 00:45:00 02:25:00',
          'whose turn it was; full_resolution = open_time + half an hour closed');
SELECT is(pg_temp.of(1, 'first_turn'), '00:30:00', 'first_turn: until it went to the customer');
SELECT is(pg_temp.of(1, 'closes, reopens'), '2 1', 'closes, reopens');
SELECT is(pg_temp.of(1, 'stations, agents'), '3 2', 'A, B, A is 3 stations of 2 agents');
SELECT is(pg_temp.of(1, 'time_to_assign, unassigned_time'), '00:15:00 00:15:00', 'until the first agent, and without one');
SELECT is(pg_temp.of(1, 'one_touch, age, idle, in_state, complete'), 'false - - - true', 'no one_touch; closed tickets have no age');
SELECT is(pg_temp.of(1, $$ agent_name, to_char(started_at, 'HH24:MI') AS s, to_char(ended_at, 'HH24:MI') AS e $$, 'assignment_periods', 'started_at'),
          'A 09:05 09:20, B 09:20 10:00, A 10:00 10:30, A 11:00 11:45', 'assignment_periods: while it is open');

-- 2: A, nobody, A; closed once, never with the customer.
SELECT pg_temp.add(2, '{"status": "new", "subStatus": "waiting4agent", "agentName": "A"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(2, '{"agentName": null}', at => pg_temp.at('09:10'));
SELECT pg_temp.update(2, '{"agentName": "A"}', at => pg_temp.at('09:30'));
SELECT pg_temp.update(2, '{"status": "closed"}', at => pg_temp.at('10:00'));
SELECT is(pg_temp.of(2, 'stations, agents, unassigned_time, time_to_assign'), '2 1 00:20:00 00:00:00', 'A, nobody, A is 2 stations');
SELECT is(pg_temp.of(2, 'one_touch, first_turn'), 'true 01:00:00', 'one_touch; first_turn: until it was closed');

-- 3: began with the customer, by an update.
SELECT pg_temp.update(3, '{"status": "park", "subStatus": "waiting4entity"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(3, '{"status": "closed"}', at => pg_temp.at('09:30'));
SELECT is(pg_temp.of(3, 'first_turn, complete, one_touch'), '- false false', 'not with the desk at first; not begun by an add');

-- 4: deleted and added again is another life: the time between, and before, counts nowhere.
SELECT pg_temp.add(4, '{"status": "park", "subStatus": "waiting4agent", "agentName": "A", "softDeadline": "2024-02-15T08:00:00Z"}', at => pg_temp.at('07:00'));
SELECT pg_temp.delete(4, at => pg_temp.at('09:00'));
SELECT is(pg_temp.of(4, 'ticket_id'), NULL, 'deleted: it leaves the list');
SELECT is(pg_temp.of(4, 'met, breached, met_first, ever_breached, cancelled, closed_at', 'deadline_cycles'), '- - - true true -',
          'cancelled: neither met nor breached, but it had been late');
SELECT is(pg_temp.of(4, $$ to_char(ended_at, 'HH24:MI') AS e $$, 'assignment_periods'), '09:00', 'a deletion ends a period');
SELECT is(pg_temp.of(4, 'ended_by, state', 'status_periods'), 'deletion desk', 'and is not an answer');
SELECT pg_temp.add(4, '{"status": "park", "title": "again"}', at => pg_temp.at('11:00'));
SELECT pg_temp.update(4, '{"status": "closed"}', at => pg_temp.at('11:20'));
SELECT is(pg_temp.of(4, 'full_resolution, desk_time, other_time, closes, stations'), '00:20:00 00:00:00 00:20:00 1 0', 'another life');
SELECT is((SELECT row(opened, closed, reopened, deleted, deleted_open, restored, restored_open, backlog)::text FROM vcc.daily_flow
            WHERE project_id = 1 AND day = '2024-02-15'), '(4,5,1,1,1,1,1,0)', 'daily_flow: 4 + 1 + 1 - 5 - 1 = 0');

-- 5: the deadline is moved after the breach, earlier again, removed, set, and the ticket closed.
SELECT pg_temp.add(5, '{"status": "park", "softDeadline": "2024-02-15T10:00:00Z", "agentName": "A"}', at => pg_temp.at('09:00'));
SELECT is(pg_temp.of(5, 'met, breached, met_first, ever_breached', 'deadline_cycles'), '- - - true', 'open: late by now');
SELECT pg_temp.update(5, '{"softDeadline": "2024-02-15T18:00:00Z", "userId": 7, "agentName": "B"}', at => pg_temp.at('10:30'));
SELECT pg_temp.update(5, '{"softDeadline": "2024-02-15T16:00:00Z", "userId": 8}', at => pg_temp.at('11:00'),
    body => '{"action": "update", "ticket": {"projectId": 1, "ticketId": 5, "softDeadline": "2024-02-15T16:00:00Z", "userId": 8.0}}');
SELECT pg_temp.update(5, '{"status": "closed", "softDeadline": "2024-02-15T11:00:00Z"}', at => pg_temp.at('16:00'));
SELECT is(pg_temp.of(5, 'met, breached, met_first', 'deadline_cycles'), 'true false false',
          'closed at the deadline as it stood before is met; against the first it is not');
SELECT is(pg_temp.of(5, 'ever_breached, moved_later, moved_earlier, moved_after_breach, removed', 'deadline_cycles'), 'true 1 1 1 0',
          'moving it erases no breach; each move counts');
SELECT is(pg_temp.of(5, $$ to_char(moved_at, 'HH24:MI') AS m, to_char(old_deadline, 'HH24:MI') AS o, to_char(new_deadline, 'HH24:MI') AS n,
                           after_breach, user_id, agent_name $$, 'deadline_moves', 'moved_at'),
          '10:30 10:00 18:00 true 7 B, 11:00 18:00 16:00 false 8 B', 'old, new, when, by whom');
SELECT pg_temp.update(5, '{"status": "park"}', at => pg_temp.at('17:00'));
SELECT is(pg_temp.of(5, 'predates, met, breached, closed_at IS NULL AS open', 'deadline_cycles', 'cycle_no'),
          'false true false false, true - - true', 'reopened: a new cycle, whose deadline is already past');

-- 6: closed a microsecond late; 7: removed.
SELECT pg_temp.add(6, '{"status": "park", "softDeadline": "2024-02-15T10:00:00Z", "type": "x", "agentName": "A"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(6, '{"status": "closed", "type": "y", "agentName": "B"}', at => pg_temp.at('10:00:00.000001'));
SELECT is(pg_temp.of(6, 'met, breached, met_first, ever_breached, type, agent_name', 'deadline_cycles'), 'false true false true y B',
          'breached; type and agent are those at the close');
SELECT pg_temp.add(7, '{"status": "park", "softDeadline": "2024-02-15T10:00:00Z"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(7, '{"softDeadline": null}', at => pg_temp.at('10:30'));
SELECT pg_temp.update(7, '{"status": "closed"}', at => pg_temp.at('11:00'));
SELECT is(pg_temp.of(7, 'deadline, met, breached, met_first, ever_breached, removed', 'deadline_cycles'), '- - - false true 1',
          'removed: none from then on, but it had been late');

-- 8: overdue is later than the deadline; equal is not.
SELECT pg_temp.add(8, jsonb_build_object('status', 'park', 'softDeadline', now()), at => pg_temp.at('09:00'));
SELECT is((SELECT overdue FROM vcc.open_tickets WHERE ticket_id = 8), false, 'at the deadline it is not overdue');
SELECT is(pg_temp.of(8, 'ever_breached', 'deadline_cycles'), 'false', 'and not breached');
SELECT pg_temp.update(8, jsonb_build_object('softDeadline', now() - interval '1 microsecond'), at => pg_temp.at('09:01'));
SELECT is((SELECT overdue FROM vcc.open_tickets WHERE ticket_id = 8), true, 'after it it is');

-- 9: a late event is never before the one before it; an agent who is there at first took no time.
SELECT pg_temp.add(9, '{"status": "park", "subStatus": "waiting4agent", "agentName": "A"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(9, '{"status": "closed"}', at => pg_temp.at('08:00'));
SELECT is(pg_temp.of(9, 'full_resolution, desk_time, time_to_assign'), '00:00:00 00:00:00 00:00:00', 'late: no time is negative');

-- 10: closed when first seen, after a day: it was open, nobody knows how.
SELECT pg_temp.add(10, '{"status": "closed", "firstOpenTime": "2024-02-14T09:00:00Z"}', at => pg_temp.at('09:00'));
SELECT is(pg_temp.of(10, 'full_resolution, other_time, open_time, closes, one_touch, unassigned_time'),
          '1 day 1 day 1 day 1 true 1 day', 'closed when first seen');
SELECT is(pg_temp.of(10, 'cycle_no', 'deadline_cycles'), NULL, 'and no cycle: it was never seen open');

-- 13 to 15: opened by firstOpenTime, also where that is later: what came before it counts as at it, and no time is negative.
SELECT pg_temp.add(13, '{"status": "new", "subStatus": "waiting4agent", "softDeadline": "2024-02-15T09:05:00Z"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(13, '{"agentName": "A"}', at => pg_temp.at('09:10'));
SELECT pg_temp.update(13, '{"firstOpenTime": "2024-02-15T09:30:00Z", "subStatus": "waiting4entity"}', at => pg_temp.at('10:00'));
SELECT pg_temp.update(13, '{"status": "closed"}', at => pg_temp.at('11:00'));
SELECT is(pg_temp.of(13, 'first_resolution, full_resolution, desk_time, customer_time, open_time, first_turn, time_to_assign, unassigned_time'),
          '01:30:00 01:30:00 00:30:00 01:00:00 01:30:00 00:30:00 00:00:00 00:00:00', 'opened after its first event');
SELECT is(pg_temp.of(13, $$ to_char(opened_at, 'HH24:MI') AS o, predates, ever_breached $$, 'deadline_cycles'), '09:30 true true',
          'which erases no breach');
SELECT pg_temp.add(14, '{"status": "new", "subStatus": "waiting4agent", "firstOpenTime": "2024-02-15T11:00:00Z"}', at => pg_temp.at('09:00'));
SELECT pg_temp.update(14, '{"status": "closed"}', at => pg_temp.at('10:00'));
SELECT is(pg_temp.of(14, $$ to_char(closed_at, 'HH24:MI') AS c, first_resolution, full_resolution, desk_time, open_time, first_turn $$),
          '10:00 00:00:00 00:00:00 00:00:00 00:00:00 00:00:00', 'opened after its close: it took no time');
SELECT is(pg_temp.of(14, $$ to_char(opened_at, 'HH24:MI') AS o, to_char(closed_at, 'HH24:MI') AS c, resolution $$, 'resolution_times'),
          '11:00 10:00 00:00:00', 'in vcc.resolution_times too');
SELECT pg_temp.add(15, jsonb_build_object('status', 'new', 'firstOpenTime', now() + interval '1 hour'), at => pg_temp.at('09:00'));
SELECT is((SELECT row(m.age, m.in_state, m.age_business, o.age, m.idle = now() - pg_temp.at('09:00'))::text
             FROM vcc.ticket_metrics m JOIN vcc.open_tickets o USING (project_id, ticket_id) WHERE ticket_id = 15),
          '(00:00:00,00:00:00,00:00:00,00:00:00,t)', 'opened in the future: it is not old');

-- 16, of project 3: opened with Anna, handed to Bert, who closes it, handed to Carla, and deleted. Each counts for who had it then.
SELECT pg_temp.add(16, '{"status": "new", "agentName": "Anna", "type": "x", "entityId": 77}', project => 3, at => pg_temp.at('09:00'));
SELECT pg_temp.update(16, '{"agentName": "Bert", "type": "y"}', project => 3, at => pg_temp.at('10:00'));
SELECT pg_temp.update(16, '{"status": "closed"}', project => 3, at => pg_temp.at('11:00'));
SELECT pg_temp.update(16, '{"agentName": "Carla"}', project => 3, at => pg_temp.at('12:00'));
SELECT is((SELECT row(agent_name, type)::text FROM vcc.resolution_times WHERE project_id = 3), '(Bert,y)', 'he resolved it who closed it');
SELECT pg_temp.delete(16, project => 3, at => pg_temp.at('13:00'));
SELECT is((SELECT row(agent_name, type)::text FROM vcc.resolution_times WHERE project_id = 3), '(Bert,y)', 'also when it is deleted');
SELECT is((SELECT string_agg(concat_ws(' ', agent, list), ', ' ORDER BY agent, list)
             FROM unnest('{Anna,Bert,Carla}'::text[]) agent, unnest('{opened,closed,reopened,deleted}'::text[]) list,
                  vcc.report_list(list, current_date - '2024-02-14', 3, agent => agent) found WHERE found ->> 'total' <> '0'),
          'Anna opened, Bert closed, Carla deleted', 'in flows too, and a deleted ticket is among them');
SELECT is((SELECT string_agg(concat_ws(' ', customer, list), ', ' ORDER BY customer, list)
             FROM unnest('{77,78}'::bigint[]) customer, unnest('{opened,closed,deleted}'::text[]) list,
                  vcc.report_list(list, current_date - '2024-02-14', 3, customer => customer) found WHERE found ->> 'total' <> '0'),
          '77 closed, 77 deleted, 77 opened', 'by the customer that it had, too');
SELECT is((SELECT string_agg(concat_ws(' ', day, found ->> 'total'), ', ' ORDER BY day)
             FROM unnest('{2024-02-14,2024-02-15}'::date[]) day, vcc.report_list('resolved', project => 1, day => day) found),
          '2024-02-14 0, 2024-02-15 10', 'resolved on a day, and not since');

SELECT pg_temp.add(20, '{"status": "new", "entityId": 79}', project => 3, at => pg_temp.at('09:00') - interval '1 day');
SELECT pg_temp.delete(20, project => 3, at => pg_temp.at('09:00'));
SELECT is(vcc.report_list('backlog', project => 3, customer => 79, day => '2024-02-14') ->> 'total', '1', 'also what was open of his');
SELECT throws_ok($$ SELECT vcc.report_list('closed', status => 'closed') $$, '22023', NULL, 'of what happened no status is asked');

-- 18, of project 4: closed with Anna, and handed to Bert by an event of the same moment that took effect after it.
SELECT pg_temp.add(18, '{"status": "new", "agentName": "Anna"}', project => 4, at => now() - interval '1 hour');
SELECT pg_temp.update(18, attributes, project => 4, at => now()) FROM unnest('{"{\"status\": \"closed\"}","{\"agentName\": \"Bert\"}"}'::jsonb[]) attributes;
SELECT is((SELECT string_agg(a ->> 'agent', ', ') FROM json_array_elements(vcc.report(7, 4) -> 'agents') a), 'Anna', 'on the page, too');

-- 19: the clock of a host is an hour fast. What it says has happened just now.
SELECT pg_temp.add(19, '{"status": "new", "subStatus": "waiting4agent"}', at => now() - interval '2 hours');
SELECT pg_temp.update(19, '{"subStatus": "waiting4entity"}', at => now() + interval '1 hour');
SELECT is(pg_temp.of(19, 'age, idle, in_state, desk_time, customer_time, idle_business'), '02:00:00 00:00:00 00:00:00 02:00:00 00:00:00 00:00:00',
          'a fast clock: no time is negative');
SELECT is(pg_temp.of(19, 'duration', 'status_periods', 'applied_no'), '02:00:00, 00:00:00', 'nor a period');

-- 21 to 23, of project 6: no login is none, however that is said.
SELECT pg_temp.add(21, '{"status": "new", "agentName": "Dora", "agentUserName": ""}', project => 6, at => now());
SELECT pg_temp.add(22, '{"status": "new", "agentName": "Dora"}', project => 6, at => now());
SELECT pg_temp.add(23, '{"status": "closed", "agentName": "Dora", "agentUserName": ""}', project => 6, at => now());
SELECT is((SELECT string_agg(row(agent_name, agent_user_name, open, closed_last_7_days)::text, ', ') FROM vcc.agent_workload WHERE project_id = 6),
          '(Dora,,2,1)', 'an agent without a login is one agent');
SELECT is((SELECT a - 'median_s' FROM jsonb_array_elements(vcc.report(7, 6)::jsonb -> 'agents') a),
          '{"agent": "Dora", "login": null, "open": 2, "overdue": 0, "closed": 1}', 'on the page, too');

-- An empty place is the beginning.
SELECT is(json_array_length(vcc.report_list('open', project => 6, after => '') -> 'rows'), 2, 'of a list');
SELECT is(json_array_length(vcc.report_deliveries(project => 6, after => '') -> 'deliveries'), 3, 'and of deliveries');

-- Business time: an office from 09:30 to 10:15 on Thursdays, which 15 February is.
INSERT INTO vcc.calendars VALUES (1, 'office', 'UTC', true);
INSERT INTO vcc.calendar_hours VALUES (1, 4, '09:30', '10:15');
SELECT is(pg_temp.of(1, 'first_resolution_business, full_resolution_business, desk_time_business, customer_time_business'),
          '00:45:00 00:45:00 00:15:00 00:30:00', 'each in business time too');

INSERT INTO vcc.project_calendars VALUES (1, 99);
SELECT is(pg_temp.of(1, 'desk_time, desk_time_business, open_time_business, unassigned_time_business'), '01:00:00 - - -',
          'a calendar that is missing: NULL, not 0');
DELETE FROM vcc.project_calendars;

-- Averages: 90 of 100 within; n = 0 is NULL.
SELECT is((SELECT row(open, resolved_last_30_days, median_resolution, p90_resolution)::text FROM vcc.agent_workload
            WHERE project_id = 1 AND agent_name = 'B'), '(1,0,,)', 'none was closed in 30 days: NULL, not 0');
SELECT pg_temp.add(11, '{"status": "closed", "agentName": "C"}', at => now() - interval '1 hour');
SELECT pg_temp.update(12, '{"status": "closed", "agentName": "C"}', at => now() - interval '1 hour');
SELECT is((SELECT row(closed_last_7_days, resolved_last_30_days, median_resolution, p90_resolution)::text FROM vcc.agent_workload
            WHERE project_id = 1 AND agent_name = 'C'), '(2,1,00:00:00,00:00:00)', 'only complete tickets are in averages');


-- Where the journal was cut nobody knows since when a ticket was open: it was, a moment before it was closed.
SELECT pg_temp.add(17, '{"status": "park", "softDeadline": "2024-02-15T10:00:00Z"}', at => pg_temp.at('09:00'));
DELETE FROM vcc.ticket_events WHERE ticket_id = 17;
SELECT is(pg_temp.of(17, 'ever_breached', 'deadline_cycles'), 'true', 'open, and late');
SELECT is(pg_temp.of(17, 'other_time, open_time, other_time_business'), '- - -', 'how long is not known');
SELECT pg_temp.update(17, '{"status": "closed"}', at => pg_temp.at('11:00'));
SELECT is(pg_temp.of(17, 'breached, ever_breached', 'deadline_cycles'), 'true true', 'closed late');
SELECT is(pg_temp.of(17, 'full_resolution IS NOT NULL AS known, open_time'), 'true -', 'of that, too');

SELECT * FROM finish();
ROLLBACK;
