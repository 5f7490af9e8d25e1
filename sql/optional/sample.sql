-- Sample data: two projects, 25 tickets, two weeks of November 2024. The outputs in sql/README.md are made from it.
--
-- sql/README.md says how to load it.
--
-- Each line is an event; they are applied in the order of their times. Identifiers and times are given, hence always the
-- same. A NULL is an attribute that the event does not mention. All times are UTC. VCC Live's own bodies carry more.
BEGIN;
SET LOCAL timezone = 'UTC';
SET LOCAL client_min_messages = warning;

DO $$
BEGIN
    IF EXISTS (SELECT FROM vcc.ticket_events) OR EXISTS (SELECT FROM vcc.rejected_events) THEN
        RAISE 'this database has events: load the sample into one of its own';
    END IF;
END
$$;

-- What vcc.prepare_journal() would have made at that time.
CREATE TABLE vcc.ticket_events_2024_11 PARTITION OF vcc.ticket_events
    FOR VALUES FROM (vcc.first_event_id('2024-11-01')) TO (vcc.first_event_id('2024-12-01'));
COMMENT ON TABLE vcc.ticket_events_2024_11 IS 'Journal rows of November 2024';

CREATE TEMP TABLE agents (user_name text, name text, user_id bigint) ON COMMIT DROP;
INSERT INTO agents VALUES
    ('anna_kovacs', 'Anna Kovács', 11), ('ben_taylor', 'Ben Taylor', 12), ('carla_rossi', 'Carla Rossi', 13);

CREATE TEMP TABLE sample (
    at timestamptz, action text, project bigint, ticket bigint, status text, sub_status text, agent text, more jsonb
) ON COMMIT DROP;

INSERT INTO sample VALUES
    -- A complaint: taken, answered, closed.
    ('2024-11-04 08:12', 'add',    131, 1, 'park', 'waiting4agent', NULL, '{"title": "Invoice is wrong", "type": "complaint", "priority": "high", "softDeadline": "2024-11-05T08:12:00Z"}'),
    ('2024-11-04 08:40', 'update', 131, 1, NULL, NULL, 'anna_kovacs', NULL),
    ('2024-11-04 09:05', 'update', 131, 1, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-04 15:30', 'update', 131, 1, NULL, 'waiting4agent', NULL, NULL),
    ('2024-11-04 15:52', 'update', 131, 1, 'closed', 'successful', NULL, NULL),
    -- Closed later than was agreed.
    ('2024-11-04 10:31', 'add',    131, 2, 'park', 'waiting4agent', 'ben_taylor', '{"title": "No answer to my letter", "type": "complaint", "softDeadline": "2024-11-05T10:31:00Z"}'),
    -- Its deadline was moved when it had passed.
    ('2024-11-05 15:00', 'update', 131, 2, NULL, NULL, NULL, '{"softDeadline": "2024-11-07T10:31:00Z", "userId": 12}'),
    ('2024-11-06 14:10', 'update', 131, 2, 'closed', 'successful', NULL, NULL),
    -- Reopened, and handed over with another priority.
    ('2024-11-04 13:02', 'add',    131, 3, 'park', 'waiting4agent', 'anna_kovacs', '{"title": "Change of address", "type": "request", "priority": "low", "softDeadline": "2024-11-07T13:02:00Z"}'),
    ('2024-11-05 09:20', 'update', 131, 3, 'closed', 'successful', NULL, NULL),
    ('2024-11-06 08:15', 'update', 131, 3, 'park', 'waiting4agent', NULL, '{"lastOpenTime": "2024-11-06T08:15:00Z"}'),
    ('2024-11-06 08:47', 'update', 131, 3, NULL, NULL, 'carla_rossi', '{"priority": "high", "title": "Change of address: letters still go to the old one"}'),
    ('2024-11-06 11:30', 'update', 131, 3, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-07 10:05', 'update', 131, 3, 'closed', 'successful', NULL, NULL),
    ('2024-11-05 09:44', 'add',    131, 4, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Opening hours", "type": "question", "softDeadline": "2024-11-06T09:44:00Z"}'),
    ('2024-11-05 10:02', 'update', 131, 4, 'closed', 'successful', NULL, NULL),
    ('2024-11-05 14:21', 'add',    131, 5, 'park', 'waiting4agent', 'ben_taylor', '{"title": "Refund", "type": "request", "priority": "high", "softDeadline": "2024-11-08T14:21:00Z"}'),
    ('2024-11-06 09:00', 'update', 131, 5, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-11 09:12', 'update', 131, 5, NULL, 'waiting4agent', NULL, NULL),
    ('2024-11-11 10:40', 'update', 131, 5, 'closed', 'unsuccessful', NULL, NULL),
    -- Spam: deleted.
    ('2024-11-06 02:13', 'add',    131, 6, 'park', 'waiting4agent', NULL, '{"title": "You have won", "type": null}'),
    ('2024-11-06 08:01', 'delete', 131, 6, NULL, NULL, NULL, NULL),
    ('2024-11-06 08:03', 'update', 131, 6, NULL, NULL, NULL, '{"title": "late, after the delete"}'),
    ('2024-11-07 11:11', 'add',    131, 7, 'park', 'waiting4agent', 'anna_kovacs', '{"title": "Contract ends when?", "type": "question", "softDeadline": "2024-11-08T11:11:00Z"}'),
    ('2024-11-07 12:26', 'update', 131, 7, 'closed', 'successful', NULL, NULL),
    ('2024-11-08 16:45', 'add',    131, 8, 'park', 'waiting4agent', 'anna_kovacs', '{"title": "Invoice came twice", "type": "complaint", "softDeadline": "2024-11-11T16:45:00Z"}'),
    ('2024-11-11 08:30', 'update', 131, 8, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-11 13:50', 'update', 131, 8, 'closed', 'successful', NULL, NULL),
    ('2024-11-11 09:05', 'add',    131, 9, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Power of attorney", "type": "request", "softDeadline": "2024-11-14T09:05:00Z"}'),
    ('2024-11-12 15:15', 'update', 131, 9, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-12 10:20', 'add',    131, 10, 'park', 'waiting4agent', 'ben_taylor', '{"title": "Rude on the telephone", "type": "complaint", "priority": "high", "softDeadline": "2024-11-13T10:20:00Z"}'),
    ('2024-11-14 09:40', 'update', 131, 10, 'closed', 'unsuccessful', NULL, NULL),
    ('2024-11-15 08:55', 'update', 131, 10, 'park', 'waiting4agent', NULL, '{"lastOpenTime": "2024-11-15T08:55:00Z"}'),
    ('2024-11-13 12:37', 'add',    131, 11, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Form cannot be sent", "type": "question", "softDeadline": "2024-11-14T12:37:00Z"}'),
    ('2024-11-13 16:08', 'update', 131, 11, 'closed', 'successful', NULL, NULL),
    ('2024-11-15 14:30', 'add',    131, 12, 'park', 'waiting4agent', NULL, '{"title": "Invoice without VAT number", "type": "request", "priority": "low", "softDeadline": "2024-11-20T14:30:00Z"}'),
    ('2024-11-18 09:26', 'add',    131, 13, 'park', 'waiting4agent', NULL, '{"title": "Cannot log in", "type": "question", "softDeadline": "2024-11-19T09:26:00Z"}'),
    ('2024-11-18 09:58', 'update', 131, 13, NULL, NULL, 'anna_kovacs', NULL),
    -- The answer was lost on its way, and VCC Live sent it again.
    ('2024-11-18 16:11', 'add',    131, 14, 'park', 'waiting4agent', NULL, '{"title": "Meter reading", "type": "request"}'),
    ('2024-11-18 16:14', 'add',    131, 14, 'park', 'waiting4agent', NULL, '{"title": "Meter reading", "type": "request", "firstOpenTime": "2024-11-18T16:11:00Z", "lastOpenTime": "2024-11-18T16:11:00Z"}'),

    ('2024-11-04 11:15', 'add',    132, 1, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Parcel is late", "type": "delivery", "softDeadline": "2024-11-06T11:15:00Z"}'),
    ('2024-11-04 11:40', 'update', 132, 1, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-05 16:20', 'update', 132, 1, 'closed', 'successful', NULL, NULL),
    ('2024-11-05 08:50', 'add',    132, 2, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Wrong size", "type": "return", "softDeadline": "2024-11-08T08:50:00Z"}'),
    ('2024-11-07 09:30', 'update', 132, 2, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-08 08:10', 'update', 132, 2, 'closed', 'successful', NULL, NULL),
    ('2024-11-06 17:05', 'add',    132, 3, 'park', 'waiting4agent', 'ben_taylor', '{"title": "Is it in stock?", "type": "question", "softDeadline": "2024-11-07T17:05:00Z"}'),
    ('2024-11-07 08:20', 'update', 132, 3, 'closed', 'successful', NULL, NULL),
    ('2024-11-07 19:48', 'add',    132, 4, 'park', 'waiting4agent', 'ben_taylor', '{"title": "Parcel is damaged", "type": "delivery", "priority": "high", "softDeadline": "2024-11-11T12:00:00Z"}'),
    ('2024-11-08 09:15', 'update', 132, 4, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-10 20:30', 'update', 132, 4, NULL, 'waiting4agent', NULL, NULL),
    ('2024-11-12 11:00', 'update', 132, 4, 'closed', 'successful', NULL, NULL),
    ('2024-11-09 12:02', 'add',    132, 5, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Voucher is refused", "type": "question", "softDeadline": "2024-11-11T12:02:00Z"}'),
    ('2024-11-11 09:30', 'update', 132, 5, 'closed', 'successful', NULL, NULL),
    ('2024-11-10 18:40', 'add',    132, 6, 'park', 'waiting4agent', 'ben_taylor', '{"title": "Does not fit", "type": "return", "softDeadline": "2024-11-13T18:40:00Z"}'),
    ('2024-11-12 08:45', 'update', 132, 6, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-12 13:33', 'add',    132, 7, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Parcel never came", "type": "delivery", "priority": "high", "softDeadline": "2024-11-14T13:33:00Z"}'),
    ('2024-11-12 14:05', 'update', 132, 7, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-14 10:10', 'update', 132, 7, 'closed', 'successful', NULL, NULL),
    ('2024-11-14 21:19', 'add',    132, 8, 'park', 'waiting4agent', 'carla_rossi', '{"title": "Money back", "type": "return", "priority": "high", "softDeadline": "2024-11-19T12:00:00Z"}'),
    ('2024-11-15 10:00', 'update', 132, 8, NULL, 'waiting4entity', NULL, NULL),
    ('2024-11-18 11:45', 'update', 132, 8, NULL, 'waiting4agent', NULL, NULL),
    ('2024-11-16 15:25', 'add',    132, 9, 'park', 'waiting4agent', NULL, '{"title": "Change my order", "type": "question", "softDeadline": "2024-11-18T15:25:00Z"}'),
    ('2024-11-18 08:32', 'update', 132, 9, NULL, NULL, 'carla_rossi', NULL),
    ('2024-11-18 08:41', 'update', 132, 9, 'closed', 'successful', NULL, NULL),
    ('2024-11-17 22:58', 'add',    132, 10, 'park', 'waiting4agent', NULL, '{"title": "Test, please ignore", "type": null}'),
    ('2024-11-18 08:34', 'delete', 132, 10, NULL, NULL, NULL, NULL),
    ('2024-11-18 14:07', 'add',    132, 11, 'park', 'waiting4agent', 'ben_taylor', '{"title": "Zip is broken", "type": "return", "softDeadline": "2024-11-21T14:07:00Z"}');

-- Names of attributes follow from those of columns: ticketNo, ticket_no.
CREATE FUNCTION pg_temp.column_of(attribute text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT lower(regexp_replace(attribute, '([A-Z])', '_\1', 'g'))
$$;

-- An identifier as the handler gives it: the time, and here a number in place of chance.
CREATE FUNCTION pg_temp.event_id(at timestamptz, n bigint) RETURNS uuid LANGUAGE sql AS $$
    SELECT overlay(vcc.first_event_id(at)::text PLACING '7000-8000-' || lpad(n::text, 12, '0') FROM 15)::uuid
$$;

DO $$
DECLARE
    s  record;
BEGIN
    FOR s IN
        SELECT o.*, pg_temp.event_id(o.at, o.n) AS event_id,
               (SELECT jsonb_object_agg(pg_temp.column_of(t.key), t.value) FILTER (WHERE t.key <> 'priority')
                  FROM jsonb_each(o.ticket_sent) t) AS attributes
          FROM (SELECT e.*, row_number() OVER (ORDER BY e.at) AS n,
                       jsonb_build_object('projectId', e.project, 'ticketId', e.ticket,
                           'projectName', CASE e.project WHEN 131 THEN 'Customer service' ELSE 'Web shop' END,
                           'ticketNo', format('%s-%s-%s', e.project, to_char(min(e.at) OVER ticket, 'YYYYMMDD'),
                                              lpad(e.ticket::text, 6, '0')))
                       || CASE e.action WHEN 'add' THEN jsonb_build_object('entityId', e.project * 10 + e.ticket % 7,
                              'description', '', 'firstOpenTime', e.at, 'lastOpenTime', e.at) ELSE '{}' END
                       || jsonb_strip_nulls(jsonb_build_object('status', e.status, 'subStatus', e.sub_status,
                              'agentUserName', a.user_name, 'agentName', a.name, 'userId', a.user_id))
                       || coalesce(e.more, '{}') AS ticket_sent
                  FROM sample e LEFT JOIN agents a ON a.user_name = e.agent
                WINDOW ticket AS (PARTITION BY e.project, e.ticket)) o
         ORDER BY o.n
    LOOP
        PERFORM vcc.apply_events(
            event_id => ARRAY[s.event_id], received_at => ARRAY[s.at], action => ARRAY[s.action],
            project_id => ARRAY[s.project], ticket_id => ARRAY[s.ticket],
            payload => ARRAY[jsonb_build_object('action', s.action, 'ticket', s.ticket_sent)::text],
            extra_names => ARRAY[CASE WHEN s.ticket_sent ? 'priority' THEN '{"priority"}' END],
            cleared => ARRAY[(SELECT array_agg(a.key) FROM jsonb_each(s.attributes) a WHERE a.value = 'null')::text],
            entity_id => ARRAY[(s.attributes ->> 'entity_id')::bigint],
            contact_id => ARRAY[(s.attributes ->> 'contact_id')::bigint],
            created_user_id => ARRAY[(s.attributes ->> 'created_user_id')::bigint],
            user_id => ARRAY[(s.attributes ->> 'user_id')::bigint],
            ticket_no => ARRAY[(s.attributes ->> 'ticket_no')],
            title => ARRAY[(s.attributes ->> 'title')],
            type => ARRAY[(s.attributes ->> 'type')],
            description => ARRAY[(s.attributes ->> 'description')],
            cc => ARRAY[(s.attributes ->> 'cc')],
            status => ARRAY[(s.attributes ->> 'status')],
            sub_status => ARRAY[(s.attributes ->> 'sub_status')],
            created_user_name => ARRAY[(s.attributes ->> 'created_user_name')],
            project_name => ARRAY[(s.attributes ->> 'project_name')],
            agent_name => ARRAY[(s.attributes ->> 'agent_name')],
            agent_user_name => ARRAY[(s.attributes ->> 'agent_user_name')],
            first_open_time => ARRAY[(s.attributes ->> 'first_open_time')::timestamptz],
            last_open_time => ARRAY[(s.attributes ->> 'last_open_time')::timestamptz],
            soft_deadline => ARRAY[(s.attributes ->> 'soft_deadline')::timestamptz]);
    END LOOP;
END
$$;

-- Two bodies that were refused, one of which VCC Live sent three times.
DO $$
BEGIN
    FOR n IN 0..2 LOOP
        PERFORM vcc.reject_event(pg_temp.event_id(t, n), t, 131,
            convert_to('{"action":"add","ticket":{"projectId":131,"ticketId":15,"title":"Moving house","softDeadline":"21/11/2024"}}', 'UTF8'),
            '/ticket/softDeadline is not an ISO 8601 date-time')
          FROM (VALUES (timestamptz '2024-11-18 16:02' + n * interval '5 minutes')) r (t);
    END LOOP;
    PERFORM vcc.reject_event(pg_temp.event_id('2024-11-08 03:30', 0), '2024-11-08 03:30', 0,
        '{"action":"update","ticket":{"ticketId":5,"proj', 'is not JSON: it ends inside a string at byte 47');
END
$$;
COMMIT;
