-- "What an event does", the row of the add: with a row, without one, after a delete.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(62);

-- No row: inserts, every column.
\set whole '{"entityId": 1814, "contactId": 1220, "createdUserId": 6, "userId": 8, "ticketNo": "130-1", "title": "bug", "type": "complaint", "description": "a", "cc": "x@example.com", "status": "park", "subStatus": "waiting4agent", "createdUserName": "John Smith", "projectName": "Manual", "agentName": "Ann Smith", "agentUserName": "ann_smith", "firstOpenTime": "2024-02-15T15:46:46+01:00", "lastOpenTime": "2024-02-15T15:46:47+01:00", "softDeadline": "2024-02-15T15:46:48+01:00"}'
SELECT is(pg_temp.add(1, :'whole'), 'inserted', 'add without a row inserts');
SELECT is((SELECT row(project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title, type, description, cc,
                      status, sub_status, created_user_name, project_name, agent_name, agent_user_name, first_open_time,
                      last_open_time, soft_deadline, extra, first_event_at, last_event_at)::text
             FROM vcc.tickets WHERE project_id = 1 AND ticket_id = 1),
    (SELECT row(1::bigint, 1::bigint, 1814::bigint, 1220::bigint, 6::bigint, 8::bigint, '130-1'::text, 'bug'::text,
                'complaint'::text, 'a'::text, 'x@example.com'::text, 'park'::text, 'waiting4agent'::text,
                'John Smith'::text, 'Manual'::text, 'Ann Smith'::text, 'ann_smith'::text,
                timestamptz '2024-02-15 14:46:46Z', timestamptz '2024-02-15 14:46:47Z',
                timestamptz '2024-02-15 14:46:48Z', '{}'::jsonb, pg_temp.now(), pg_temp.now())::text),
    'each attribute is in its column, and the times of events are those of receipt');
SELECT is(pg_temp.add(2, '{"title": null, "userId": null}'), 'inserted', 'add of nulls inserts');
SELECT is(pg_temp.ticket(2), '{}', 'nulls say nothing about a new row');

-- The key is the pair.
SELECT is(pg_temp.add(1, '{"title": "other"}', project => 2), 'inserted', 'the same ticket number of another project');
SELECT is(pg_temp.ticket(1) ->> 'title', 'bug', 'is another ticket');

-- The first add fills only what is still unknown.
SELECT is(pg_temp.update(10, '{"title": "from update", "status": "closed", "type": "t"}'), 'inserted', 'update first');
SELECT is(pg_temp.update(10, '{"type": null}'), 'updated', 'and a column cleared');
SELECT is(pg_temp.add(10, '{"title": "from add", "status": null, "userId": 5, "type": "u",
                            "firstOpenTime": "2024-02-15T00:00:00Z"}'), 'updated', 'first add fills');
SELECT is(pg_temp.ticket(10), '{"title": "from update", "status": "closed", "user_id": 5, "type": "u",
                                "first_open_time": "2024-02-15T00:00:00+00:00"}'::jsonb
                              || jsonb_build_object('first_open_time', timestamptz '2024-02-15 00:00:00Z'),
    'known values and a null''s column stay, unknown and cleared ones are filled');
SELECT is((SELECT (first_event_at, last_event_at)::text FROM vcc.tickets WHERE project_id = 1 AND ticket_id = 10),
    (pg_temp.minute(4), pg_temp.now())::text, 'the row is as old as the update, and the add changed it');

-- Every column fills, and every column keeps what is known.
SELECT pg_temp.update(11, '{}');
SELECT is(pg_temp.add(11, :'whole'), 'updated', 'first add to an empty row');
SELECT is(pg_temp.ticket(11), pg_temp.ticket(1), 'fills every column');
SELECT pg_temp.update(12, :'whole');
SELECT is(pg_temp.add(12, '{"entityId": 9, "contactId": 9, "createdUserId": 9, "userId": 9, "ticketNo": "x", "title": "x",
    "type": "x", "description": "x", "cc": "x", "status": "x", "subStatus": "x", "createdUserName": "x",
    "projectName": "x", "agentName": "x", "agentUserName": "x", "firstOpenTime": "2000-01-01Z",
    "lastOpenTime": "2000-01-01Z", "softDeadline": "2000-01-01Z"}'), 'unchanged', 'first add to a full row');
SELECT is(pg_temp.ticket(12), pg_temp.ticket(1), 'keeps every column');

-- The same add again changes nothing, also after updates and other adds.
SELECT is(pg_temp.add(20, '{"title": "a"}'), 'inserted', 'add');
SELECT is(pg_temp.add(20, '{"title": "a"}'), 'unchanged', 'the same add again');
SELECT is(pg_temp.update(20, '{"title": "b"}'), 'updated', 'an update');
SELECT is(pg_temp.add(20, '{"title": "a"}'), 'unchanged', 'the same add after it does not take it back');
SELECT is(pg_temp.ticket(20), '{"title": "b"}', 'so the update stays');
SELECT is(pg_temp.add(20, '{"title": "c"}'), 'updated', 'another add overwrites');
SELECT is(pg_temp.add(20, '{"title": "a"}'), 'unchanged', 'the first one is still known');
SELECT is(pg_temp.add(20, '{"title": "c"}'), 'unchanged', 'and the second');
SELECT is(pg_temp.ticket(20), '{"title": "c"}', 'nothing is taken back');

-- "The same" means the same bytes.
SELECT is(pg_temp.add(20, '{"title": "a"}', body => '{"action":"add","ticket":{"projectId":1,"ticketId":20,"title":"a"}}'),
    'updated', 'the same content in other bytes is another add');

-- An add with other content overwrites like an update.
SELECT is(pg_temp.add(21, '{"title": "a", "status": "park", "userId": 1}'), 'inserted', 'add');
SELECT is(pg_temp.add(21, '{"title": "b", "userId": null}'), 'updated', 'other add');
SELECT is(pg_temp.ticket(21), '{"title": "b", "status": "park"}', 'overwrites, clears, and leaves what it does not carry');

-- The first add is remembered even where it fills nothing: the next one is not the first.
SELECT is(pg_temp.update(22, '{"title": "a"}'), 'inserted', 'update');
SELECT is(pg_temp.add(22, '{"title": "b"}'), 'unchanged', 'first add fills nothing');
SELECT is(pg_temp.add(22, '{"title": "b"}'), 'unchanged', 'the same again');
SELECT is(pg_temp.add(22, '{"title": "c"}'), 'updated', 'the second add overwrites');
SELECT is(pg_temp.ticket(22), '{"title": "c"}', 'with its content');

-- After a delete: an add that is new brings back a ticket that had had an add.
SELECT is(pg_temp.add(30, '{"title": "a", "status": "park", "colour": "red"}'), 'inserted', 'add');
SELECT is(pg_temp.add(30, '{"title": "b"}'), 'updated', 'another add');
SELECT is(pg_temp.delete(30), 'deleted', 'delete');
SELECT is(pg_temp.add(30, '{"title": "a", "status": "park", "colour": "red"}'), 'ignored', 'the first add again is a repeat');
SELECT is(pg_temp.add(30, '{"title": "b"}'), 'ignored', 'so is the second: the memory outlives the delete');
SELECT is(pg_temp.ticket(30), NULL, 'the ticket stays away');
SELECT is(pg_temp.is_deleted(30), true, 'and the deletion remembered');
SELECT is(pg_temp.add(30, '{"title": "c", "type": null}'), 'inserted', 'a new add brings the ticket back');
SELECT is(pg_temp.ticket(30), '{"title": "c"}', 'with what the new add says and nothing of before');
SELECT is(pg_temp.is_deleted(30), false, 'and forgets the deletion');
SELECT is((SELECT first_event_at FROM vcc.tickets WHERE project_id = 1 AND ticket_id = 30), pg_temp.now(),
    'the row is as old as the new add');
SELECT is(pg_temp.update(30, '{"title": "d"}'), 'updated', 'updates count again');
SELECT is(pg_temp.add(30, '{"title": "c", "type": null}'), 'unchanged', 'the new add again is a repeat');
SELECT is(pg_temp.add(30, '{"title": "e"}'), 'updated', 'another is not the first one: it overwrites');

-- After a delete, the first add that the ticket ever had was overtaken. It is remembered as an add all the same.
SELECT is(pg_temp.update(31, '{"title": "a"}'), 'inserted', 'known from an update only');
SELECT is(pg_temp.delete(31), 'deleted', 'delete');
SELECT is(pg_temp.add(31, '{"title": "a"}'), 'ignored', 'the first add was overtaken');
SELECT is(pg_temp.add(31, '{"title": "a"}'), 'ignored', 'the same again');
SELECT is(pg_temp.is_deleted(31), true, 'the deletion stays remembered');
SELECT is(pg_temp.add(31, '{"title": "b"}'), 'inserted', 'a new add inserts');

SELECT is(pg_temp.delete(32), 'unchanged', 'delete of an unknown ticket');
SELECT is(pg_temp.add(32, '{"title": "a"}'), 'ignored', 'its first add was overtaken');
SELECT is(pg_temp.add(32, '{"title": "b"}'), 'inserted', 'a new add inserts');
SELECT is(pg_temp.delete(32), 'deleted', 'deleted again');
SELECT is(pg_temp.add(32, '{"title": "a"}'), 'ignored', 'the overtaken add is a repeat by now');
-- One ticket's adds say nothing about another's.
SELECT is(pg_temp.delete(32, project => 2), 'unchanged', 'delete of the same number in another project');
SELECT is(pg_temp.add(32, '{"title": "c"}', project => 2), 'ignored', 'adds are remembered by project');
SELECT is(pg_temp.delete(33), 'unchanged', 'delete of another number');
SELECT is(pg_temp.add(33, '{"title": "c"}'), 'ignored', 'and by ticket');

SELECT * FROM finish();
ROLLBACK;
