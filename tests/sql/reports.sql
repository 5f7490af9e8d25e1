-- The views for reports: short histories whose answers are counted by hand.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SET LOCAL timezone = 'UTC';
SELECT plan(38);

-- Rows of a view as text, so that an expected answer reads like a table.
CREATE FUNCTION pg_temp.rows(query text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found  text[];
BEGIN
    EXECUTE format($q$
        SELECT array_agg((SELECT string_agg(coalesce(value, '-'), ' ') FROM json_each_text(row_to_json(q)))) FROM (%s) q
    $q$, query) INTO found;
    RETURN found;
END
$$;
CREATE FUNCTION pg_temp.periods(ticket bigint) RETURNS text[] LANGUAGE sql AS $$
    SELECT pg_temp.rows(format($q$
        SELECT status, sub_status, to_char(started_at, 'DD HH24:MI') AS s, to_char(ended_at, 'DD HH24:MI') AS e
          FROM vcc.status_periods WHERE project_id = 1 AND ticket_id = %s ORDER BY applied_no $q$, ticket))
$$;
CREATE FUNCTION pg_temp.resolved(ticket bigint) RETURNS text[] LANGUAGE sql AS $$
    SELECT pg_temp.rows(format($q$
        SELECT to_char(opened_at, 'DD HH24:MI') AS o, to_char(closed_at, 'DD HH24:MI') AS c, resolution, reopened,
               successful, deadline_met
          FROM vcc.resolution_times WHERE project_id = 1 AND ticket_id = %s ORDER BY applied_no $q$, ticket))
$$;
CREATE FUNCTION pg_temp.history(ticket bigint) RETURNS text[] LANGUAGE sql AS $$
    SELECT pg_temp.rows(format($q$
        SELECT action, attribute, old_value, new_value
          FROM vcc.ticket_history WHERE project_id = 1 AND ticket_id = %s ORDER BY applied_no, attribute $q$, ticket))
$$;
CREATE FUNCTION pg_temp.flow(project bigint, days integer) RETURNS text[] LANGUAGE sql AS $$
    SELECT pg_temp.rows(format($q$
        SELECT to_char(day, 'MM-DD') AS d, opened, closed, reopened, deleted, backlog
          FROM vcc.daily_flow WHERE project_id = %s AND day < '2024-02-14'::date + %s ORDER BY day $q$, project, days))
$$;

-- 1: an add that updates overtook (12:01 to 12:04). It only fills; the empty status of the first update is a period.
SELECT pg_temp.update(1, '{"title": "a"}');
SELECT pg_temp.update(1, '{"status": "park", "colour": "red"}');
SELECT pg_temp.add(1, '{"title": "z", "status": "new", "subStatus": "waiting4agent", "colour": "blue",
                        "tags": [1, null]}');
SELECT pg_temp.update(1, '{"status": null, "colour": null, "title": "b", "userId": 7}');
SELECT is(pg_temp.periods(1), ARRAY['- - 15 12:01 15 12:02', 'park - 15 12:02 15 12:03',
    'park waiting4agent 15 12:03 15 12:04', '- waiting4agent 15 12:04 -'],
    'periods: first seen by an update, filled by its add, cleared by null');
SELECT is(pg_temp.history(1), ARRAY['update title - a', 'update extra.colour - red', 'update status - park',
    'add extra.tags - [1, null]', 'add sub_status - waiting4agent', 'update extra.colour red -', 'update status park -',
    'update title a b', 'update user_id - 7'],
    'history: what each event really changed, strings without quotes, null where there is nothing');
SELECT is(pg_temp.rows('SELECT ticket_id, status, sub_status, overdue FROM vcc.open_tickets'),
    '{1 - waiting4agent false}', 'a ticket without a status is open, without a deadline not overdue');
SELECT ok(age = now() - pg_temp.minute(1), 'its age is since the first event') FROM vcc.open_tickets;
SELECT ok(duration = now() - pg_temp.minute(4), 'a period that lasts does so until now')
  FROM vcc.status_periods WHERE ticket_id = 1 AND ended_at IS NULL;
SELECT is(pg_temp.resolved(1), NULL, 'what was never closed has no resolution');

-- 2: closed, reopened, closed (12:05 to 12:09); deadline met the first time only; another one names no time of opening.
SELECT pg_temp.add(2, '{"status": "park", "softDeadline": "2024-02-15T12:07:30Z", "type": "complaint",
                        "agentUserName": "anna", "agentName": "Anna", "projectName": "Manual"}');
SELECT pg_temp.update(2, '{"status": "closed", "subStatus": "successful"}');
SELECT is(pg_temp.resolved(2), '{15 12:05 15 12:06 00:01:00 0 true true}', 'closed, in time');
SELECT pg_temp.update(2, '{"status": "park"}');
SELECT is(pg_temp.resolved(2), NULL, 'opened again');
SELECT pg_temp.update(2, '{"title": "b"}');
SELECT pg_temp.update(2, '{"status": "closed", "subStatus": "unsuccessful"}');
SELECT is(pg_temp.resolved(2), '{15 12:05 15 12:09 00:04:00 1 false false}', 'and closed: once reopened, too late');
SELECT pg_temp.update(2, '{"firstOpenTime": "2024-02-15T11:09:00Z"}');
SELECT is(pg_temp.resolved(2), '{15 11:09 15 12:09 01:00:00 1 false false}', 'from the time when it was first opened');
SELECT pg_temp.update(2, '{"firstOpenTime": "2024-02-15T13:00:00Z", "softDeadline": null, "subStatus": "other"}');
SELECT is(pg_temp.resolved(2), '{15 13:00 15 12:09 00:00:00 1 - false}',
    'which took no time where that is later; nothing is known of success, and it is as late as it was when it was closed');
SELECT is(pg_temp.periods(2), ARRAY['park - 15 12:05 15 12:06', 'closed successful 15 12:06 15 12:07',
    'park successful 15 12:07 15 12:09', 'closed unsuccessful 15 12:09 15 12:11', 'closed other 15 12:11 -'],
    'periods: each change of either');

-- 3: closed when first seen (12:12), deleted (12:13), added again (12:15), deleted open (12:16).
SELECT pg_temp.add(3, '{"status": "closed", "subStatus": "successful", "type": "question", "agentUserName": "bert",
                        "softDeadline": "2024-02-15T12:11:00Z", "firstOpenTime": "2024-02-15T12:02:00Z"}');
SELECT pg_temp.delete(3);
SELECT pg_temp.update(3, '{"status": "late"}');
SELECT pg_temp.add(3, '{"status": "park"}');
SELECT pg_temp.delete(3);
SELECT is(pg_temp.resolved(3), '{15 12:02 15 12:12 00:10:00 0 true false}',
    'what was deleted closed counts, with what was known then');
SELECT is((SELECT row(type, agent_user_name)::text FROM vcc.resolution_times WHERE ticket_id = 3), '(question,bert)',
    'all of it');
SELECT is(pg_temp.periods(3), '{closed successful 15 12:12 15 12:13,park - 15 12:15 15 12:16}',
    'periods end with a deletion and begin anew');
SELECT is((pg_temp.history(3))[cardinality(pg_temp.history(3))], 'delete - - -', 'a deletion is one row');

-- 4: an event that is late: received at 11:00, it takes effect after that of 12:17, and reverses no time.
SELECT pg_temp.add(4, '{"status": "park"}');
SELECT pg_temp.update(4, '{"status": "closed"}', at => '2024-02-15 11:00Z');
SELECT pg_temp.update(4, '{"subStatus": "successful"}');
SELECT is(pg_temp.periods(4), '{park - 15 12:17 15 12:17,closed - 15 12:17 15 12:18,closed successful 15 12:18 -}',
    'late: periods');
SELECT is(pg_temp.resolved(4), '{15 12:17 15 12:17 00:00:00 0 true -}', 'late: resolution');

-- 5: deleted and added again, closed in both lives.
SELECT pg_temp.add(5, '{"status": "park"}', project => 1);
SELECT pg_temp.update(5, '{"status": "closed"}');
SELECT pg_temp.delete(5);
SELECT pg_temp.add(5, '{"status": "park", "title": "again"}');
SELECT pg_temp.update(5, '{"status": "closed"}');
SELECT pg_temp.update(5, '{"status": "park"}');
SELECT pg_temp.update(5, '{"status": "closed", "subStatus": "unsuccessful"}');
SELECT is(pg_temp.resolved(5), '{15 12:19 15 12:20 00:01:00 0 - -,15 12:22 15 12:25 00:03:00 1 false -}',
    'a row for each life');

-- Overdue: only what is open.
SELECT pg_temp.add(6, '{"status": "park", "softDeadline": "2024-02-16T00:00:00Z",
                        "firstOpenTime": "2024-02-01T00:00:00Z", "agentUserName": "anna", "agentName": "Anna B.", "projectName": "Sales"}');
SELECT pg_temp.add(7, '{"status": "park", "softDeadline": "9999-12-31T00:00:00Z", "agentUserName": "anna"}');
SELECT pg_temp.add(8, '{"status": "closed", "softDeadline": "2024-02-16T00:00:00Z", "agentUserName": "anna"}',
    at => now());
SELECT is(pg_temp.rows('SELECT ticket_id, overdue FROM vcc.open_tickets ORDER BY 1'), '{1 false,6 true,7 false}',
    'open tickets');
SELECT is(pg_temp.rows('SELECT ticket_id FROM vcc.overdue_tickets'), '{6}', 'overdue tickets');
SELECT ok(overdue_by = now() - soft_deadline AND age = now() - '2024-02-01T00:00:00Z',
          'by how much, and its age from first_open_time')
  FROM vcc.overdue_tickets;

-- Agents. The median is of the last 30 days: of a ticket closed when first seen, just now.
SELECT is(pg_temp.rows('SELECT agent_user_name, agent_name, open, overdue, closed_last_7_days, median_resolution, resolved_last_30_days
                             FROM vcc.agent_workload ORDER BY 1, 2'),
    '{anna Anna B. 1 1 0 - 0,anna - 1 0 1 00:00:00 1,- - 1 0 0 - 0}',
    'agents: one row for each name and login, one for tickets of nobody');

-- Days. Project 2 has events around midnight, on the 14th, 15th and 17th; 16 has none.
SELECT pg_temp.add(1, '{"projectName": "Old"}', project => 2, at => '2024-02-14 11:30Z');
SELECT pg_temp.add(2, '{"projectName": "New"}', project => 2, at => '2024-02-14 23:59:59.999999Z');
SELECT pg_temp.add(3, '{"status": "closed"}', project => 2, at => '2024-02-15 00:00Z');
SELECT pg_temp.update(1, '{"status": "closed"}', project => 2, at => '2024-02-15 10:00Z');
SELECT pg_temp.update(1, '{"title": "a"}', project => 2, at => '2024-02-15 11:00Z');
SELECT pg_temp.update(1, '{"status": "park"}', project => 2, at => '2024-02-15 12:00Z');
SELECT pg_temp.delete(2, project => 2, at => '2024-02-17 12:00Z');
SELECT pg_temp.delete(3, project => 2, at => '2024-02-17 12:01Z');
SELECT pg_temp.add(2, '{"title": "again"}', project => 2, at => '2024-02-17 12:02Z');
SELECT is(pg_temp.flow(2, 5), '{02-14 2 0 0 0 2,02-15 1 2 1 0 2,02-16 0 0 0 0 2,02-17 0 0 0 2 2,02-18 0 0 0 0 2}',
    'daily flow: what is added again is not opened');
SELECT is(pg_temp.rows('SELECT restored, restored_open, deleted_open FROM vcc.daily_flow WHERE project_id = 2 AND restored > 0'),
    '{1 1 1}', 'but restored');
SELECT is((SELECT row(count(*), max(day) = current_date, count(DISTINCT day), min(project_name))::text
             FROM vcc.daily_flow WHERE project_id = 2),
    format('(%s,t,%1$s,Old)', current_date - '2024-02-14'::date + 1),
    'each day until today; the newest ticket that has a name gives it');
SELECT is(pg_temp.flow(1, 2), '{02-15 7 7 2 3 3}', 'project 1');
SELECT is((SELECT row(opened, closed, backlog)::text FROM vcc.daily_flow WHERE project_id = 1 AND day = current_date),
    '(1,1,3)', 'today');
SET LOCAL timezone = 'Pacific/Auckland';  -- 13 hours ahead
SELECT is(pg_temp.flow(2, 5), '{02-15 3 2 0 0 1,02-16 0 0 1 0 2,02-17 0 0 0 0 2,02-18 0 0 0 2 2}',
    'days have their bounds in the zone of the session');
SET LOCAL timezone = 'America/Los_Angeles';  -- 8 hours behind
SELECT is((pg_temp.flow(2, 3))[1:2], '{02-14 3 1 0 0 2,02-15 0 1 1 0 2}', 'in each zone');
SET LOCAL timezone = 'UTC';

-- Deliveries.
SELECT vcc.reject_event('018daceb-3000-7000-8000-000000000001', '2024-02-14 10:00Z', 2, '{', 'not JSON');
SELECT vcc.reject_event('018daceb-3000-7000-8000-000000000002', '2024-02-14 11:00Z', 2, '{', 'not JSON');
SELECT vcc.reject_event('018daceb-3000-7000-8000-000000000003', '2024-02-14 09:00Z', 0, '[', 'not an object');
SELECT is(pg_temp.rows($$ SELECT to_char(received_at, 'HH24:MI') AS at, result, action, project_id, ticket_id, reason,
                                 attempts
                            FROM vcc.deliveries WHERE received_at < '2024-02-14 12:00Z' ORDER BY received_at $$),
    '{09:00 rejected - - - not an object 1,11:00 rejected - 2 - not JSON 2,11:30 inserted add 2 1 - 1}',
    'deliveries: refused bodies once, at the last time, and events');
SELECT is((SELECT count(*) FROM vcc.deliveries WHERE event_id IN (SELECT event_id FROM vcc.ticket_events)),
    (SELECT count(*) FROM vcc.ticket_events), 'every event');

-- The oldest rows are dropped: what is left stays right, and so does the present.
SELECT vcc.drop_events_before('2024-02-16');
SELECT is(pg_temp.flow(2, 5), '{02-17 0 0 0 2 2,02-18 0 0 0 0 2}', 'dropped: the backlog is counted from today');
SELECT is(pg_temp.rows('SELECT backlog FROM vcc.daily_flow WHERE project_id = 1'), '{3}',
    'to the tickets that are open now');
SELECT is(pg_temp.periods(2), '{closed other - -}', 'the last period is there, its beginning is not known');
SELECT pg_temp.update(2, '{"subStatus": "successful"}', at => '2024-02-18 12:00Z');
SELECT is(pg_temp.periods(2), '{closed other - 18 12:00,closed successful 18 12:00 -}',
    'the next one has the status that did not change');
SELECT is(pg_temp.rows('SELECT ticket_id FROM vcc.resolution_times WHERE project_id = 1'), '{8}',
    'closings that are gone do not count');
SELECT is_empty($$ SELECT project_id, ticket_id, status, sub_status FROM vcc.tickets
                   EXCEPT
                   SELECT project_id, ticket_id, status, sub_status FROM vcc.status_periods WHERE ended_at IS NULL $$,
    'every ticket is in a period');

SELECT * FROM finish();
ROLLBACK;
