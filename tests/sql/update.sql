-- "What an event does", the row of the update: with a row, without one, after a delete.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(36);

-- No row: inserts what is known.
SELECT is(pg_temp.update(1, '{"title": "a", "userId": 1}'), 'inserted', 'update without a row inserts');
SELECT is(pg_temp.ticket(1), '{"title": "a", "user_id": 1}', 'what is known');
SELECT is((SELECT (first_event_at, last_event_at)::text FROM vcc.tickets WHERE project_id = 1 AND ticket_id = 1),
    (pg_temp.now(), pg_temp.now())::text, 'both times are those of the event');
SELECT is(pg_temp.update(2, '{"title": null}'), 'inserted', 'an update of nulls inserts too');
SELECT is(pg_temp.ticket(2), '{}', 'an empty row');

-- A row: overwrites what it carries, leaves the rest.
SELECT is(pg_temp.update(1, '{"title": "b", "status": "park"}'), 'updated', 'update with a row');
SELECT is(pg_temp.ticket(1), '{"title": "b", "status": "park", "user_id": 1}', 'overwrites what it carries');
SELECT is((SELECT (first_event_at, last_event_at)::text FROM vcc.tickets WHERE project_id = 1 AND ticket_id = 1),
    (pg_temp.minute(1), pg_temp.now())::text, 'the row stays as old as it is');
SELECT is(pg_temp.update(1, '{"title": ""}'), 'updated', 'an empty text');
SELECT is(pg_temp.ticket(1), '{"title": "", "status": "park", "user_id": 1}', 'is a value');
SELECT is(pg_temp.update(1, '{"userId": 0}'), 'updated', 'a zero');
SELECT is(pg_temp.ticket(1) -> 'user_id', '0', 'is a value');

-- Every column is overwritten, every column is left alone, every column is cleared.
\set x '{"entityId": 1, "contactId": 2, "createdUserId": 3, "userId": 4, "ticketNo": "a", "title": "b", "type": "c", "description": "d", "cc": "e", "status": "f", "subStatus": "g", "createdUserName": "h", "projectName": "i", "agentName": "j", "agentUserName": "k", "firstOpenTime": "2000-01-01Z", "lastOpenTime": "2000-01-02Z", "softDeadline": "2000-01-03Z"}'
\set y '{"entityId": 11, "contactId": 12, "createdUserId": 13, "userId": 14, "ticketNo": "A", "title": "B", "type": "C", "description": "D", "cc": "E", "status": "F", "subStatus": "G", "createdUserName": "H", "projectName": "I", "agentName": "J", "agentUserName": "K", "firstOpenTime": "2001-01-01Z", "lastOpenTime": "2001-01-02Z", "softDeadline": "2001-01-03Z"}'
SELECT pg_temp.update(3, :'x');
SELECT pg_temp.update(4, :'y');
SELECT is((SELECT count(*) FROM jsonb_object_keys(pg_temp.ticket(3))), 18::bigint, 'every column has a value');
SELECT is(pg_temp.update(3, :'y'), 'updated', 'every column anew');
SELECT is(pg_temp.ticket(3), pg_temp.ticket(4), 'is overwritten');
SELECT is(pg_temp.update(3, '{}'), 'unchanged', 'an update that carries nothing');
SELECT is(pg_temp.ticket(3), pg_temp.ticket(4), 'leaves every column');

SELECT is(pg_temp.update(4, jsonb_build_object(name, NULL)), 'updated', 'null for ' || name) FROM pg_temp.attributes
 WHERE name IN ('title', 'userId', 'softDeadline');
SELECT is(pg_temp.ticket(4), pg_temp.ticket(3) - '{title,user_id,soft_deadline}'::text[], 'clears that column alone');
SELECT is(pg_temp.update(4, '{"title": null}'), 'unchanged', 'null for what is unknown changes nothing');
SELECT is(pg_temp.update(3, (SELECT jsonb_object_agg(name, NULL) FROM pg_temp.attributes)), 'updated', 'nulls for all');
SELECT is(pg_temp.ticket(3), '{}', 'clear every column');
SELECT is(pg_temp.update(4, '{"title": "x", "status": null, "colour": "red"}'), 'updated', 'both at once');
SELECT is(pg_temp.ticket(4) - '{title,extra}'::text[] || '{"status": "F"}', pg_temp.ticket(4) || '{"status": "F"}'
          #- '{title}' #- '{extra}', 'one set, one cleared');

-- Deleted: an update is late.
SELECT is(pg_temp.delete(1), 'deleted', 'delete');
SELECT is(pg_temp.update(1, '{"title": "late"}'), 'ignored', 'a late update is ignored');
SELECT is(pg_temp.ticket(1), NULL, 'the ticket stays away');
SELECT is(pg_temp.is_deleted(1), true, 'and the deletion remembered');
SELECT is(pg_temp.update(1, '{"title": "late"}', project => 2), 'inserted', 'in its own project only');
SELECT is(pg_temp.delete(5), 'unchanged', 'delete of an unknown ticket');
SELECT is(pg_temp.update(5, '{"title": "late"}'), 'ignored', 'an update after it is late, too');
-- However often: an update never becomes "the add before".
SELECT is(pg_temp.update(5, '{"title": "later"}'), 'ignored', 'and another one');

-- As another application may call it: what it says nothing of it leaves out.
SELECT is((SELECT result FROM vcc.apply_events(project => 1, ticket_id => '{4}', action => '{update}', title => '{new}',
    payload => '{"{}"}')), 'updated', 'few parameters');
SELECT is(pg_temp.ticket(4) ->> 'title', 'new', 'the values count');

SELECT * FROM finish();
ROLLBACK;
