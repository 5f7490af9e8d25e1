-- What the views about the work of the desk are made of, so that their rules stand once: how a ticket was between two events.
--
-- Each span is made from what ended it: a change, a deletion, or the present. That knows the old values, so the last one is
-- right also where the journal's oldest rows were dropped. An event says nothing of what it did not change: that is as the next
-- event says which did. Each text begins with the number of its event, so that min() over the later ones finds it; a value
-- stands behind a =, NULL is without. What nobody asks for is not computed.
CREATE OR REPLACE VIEW vcc.ticket_spans AS
SELECT n.project_id, n.ticket_id, n.life, n.present, coalesce(n.began_by = 'inserted', false) AS first, n.began_as,
       n.started_at, n.ended_at,
       CASE n.result WHEN 'updated' THEN 'change' WHEN 'deleted' THEN 'deletion' END AS ended_by,
       n.before_open, n.open, n.after_open,
       CASE WHEN NOT n.open THEN 'closed' ELSE CASE substr(n.sub_status, 21)
           WHEN 'waiting4agent' THEN 'desk' WHEN 'waiting4entity' THEN 'customer' ELSE 'other' END END AS state,
       nullif(substr(n.agent_name, 21), '') AS agent_name,
       nullif(substr(n.agent_user_name, 21), '') AS agent_user_name,
       CASE WHEN length(n.type) > 19 THEN substr(n.type, 21) END AS type,
       nullif(substr(n.soft_deadline, 21), '')::timestamptz AS soft_deadline,
       nullif(substr(n.first_open_time, 21), '')::timestamptz AS first_open_time,
       n.applied_no AS span_no, n.event_id
  FROM (SELECT m.project_id, m.ticket_id, m.result, m.applied_no, m.event_id, m.open,
               lag(m.open) OVER before AS before_open, lead(m.open) OVER before AS after_open,
               lag(m.result) OVER before AS began_by, lag(m.action) OVER before AS began_as,
               count(*) FILTER (WHERE m.result = 'inserted') OVER before AS life,
               max(m.received_at) OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS started_at,
               CASE WHEN m.result <> 'present' THEN max(m.received_at) OVER before END AS ended_at,
               count(*) FILTER (WHERE m.result = 'deleted') OVER after = 0 AS present,
               min(m.sub_status COLLATE "C") OVER after AS sub_status,
               min(m.agent_name COLLATE "C") OVER after AS agent_name,
               min(m.agent_user_name COLLATE "C") OVER after AS agent_user_name,
               min(m.type COLLATE "C") OVER after AS type,
               min(m.soft_deadline COLLATE "C") OVER after AS soft_deadline,
               min(m.first_open_time COLLATE "C") OVER after AS first_open_time
          FROM (SELECT e.project_id, e.ticket_id, e.applied_no, e.event_id, e.received_at, e.result, e.action, e.was_open AS open,
                       CASE WHEN e.result <> 'updated' OR e.changes ? 'sub_status' THEN concat(lpad(e.applied_no::text, 19, '0'),
                           '=' || (e.changes -> 'sub_status' ->> 0)) END AS sub_status,
                       CASE WHEN e.result <> 'updated' OR e.changes ? 'agent_name' THEN concat(lpad(e.applied_no::text, 19, '0'),
                           '=' || (e.changes -> 'agent_name' ->> 0)) END AS agent_name,
                       CASE WHEN e.result <> 'updated' OR e.changes ? 'agent_user_name' THEN concat(lpad(e.applied_no::text, 19, '0'),
                           '=' || (e.changes -> 'agent_user_name' ->> 0)) END AS agent_user_name,
                       CASE WHEN e.result <> 'updated' OR e.changes ? 'type' THEN concat(lpad(e.applied_no::text, 19, '0'),
                           '=' || (e.changes -> 'type' ->> 0)) END AS type,
                       CASE WHEN e.result <> 'updated' OR e.changes ? 'soft_deadline' THEN concat(lpad(e.applied_no::text, 19, '0'),
                           '=' || (e.changes -> 'soft_deadline' ->> 0)) END AS soft_deadline,
                       CASE WHEN e.result <> 'updated' OR e.changes ? 'first_open_time' THEN concat(lpad(e.applied_no::text, 19, '0'),
                           '=' || (e.changes -> 'first_open_time' ->> 0)) END AS first_open_time
                  FROM vcc.ticket_events e
                 WHERE e.result IN ('inserted', 'deleted')
                    OR e.changes ?| '{status, sub_status, agent_name, agent_user_name, type, soft_deadline, first_open_time}'
                 UNION ALL
                SELECT t.project_id, t.ticket_id, 9223372036854775807, NULL, NULL, 'present', NULL, t.status IS DISTINCT FROM 'closed',
                       concat('9223372036854775807', '=' || t.sub_status),
                       concat('9223372036854775807', '=' || t.agent_name),
                       concat('9223372036854775807', '=' || t.agent_user_name),
                       concat('9223372036854775807', '=' || t.type),
                       concat('9223372036854775807', '=' || to_char(t.soft_deadline AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"Z"')),
                       concat('9223372036854775807', '=' || to_char(t.first_open_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"Z"'))
                  FROM vcc.tickets t) m
        WINDOW before AS (PARTITION BY m.project_id, m.ticket_id ORDER BY m.applied_no),
               after AS (PARTITION BY m.project_id, m.ticket_id ORDER BY m.applied_no DESC)) n
 WHERE n.result <> 'inserted';  -- before which there is nothing

COMMENT ON VIEW   vcc.ticket_spans IS
    'How tickets were between two events: a row for each time that state, agent, type, deadline and time of opening stayed as they '
    'were, deleted lives among them. What other views are made of; ask for one project';
COMMENT ON COLUMN vcc.ticket_spans.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.ticket_spans.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.ticket_spans.life IS 'Which life of the ticket: it has another when it is added again after a deletion; 0: the journal no longer has its beginning';
COMMENT ON COLUMN vcc.ticket_spans.present IS 'Whether it is of the life that lasts';
COMMENT ON COLUMN vcc.ticket_spans.first IS 'Whether a life began with it';
COMMENT ON COLUMN vcc.ticket_spans.began_as IS 'Action of the event that it began with';
COMMENT ON COLUMN vcc.ticket_spans.started_at IS 'When it began, never before the one before it; NULL: the journal no longer tells';
COMMENT ON COLUMN vcc.ticket_spans.ended_at IS 'When it ended; NULL: it lasts';
COMMENT ON COLUMN vcc.ticket_spans.ended_by IS 'change or deletion; NULL: it lasts';
COMMENT ON COLUMN vcc.ticket_spans.before_open IS 'Whether the ticket was open before; NULL: it is the first';
COMMENT ON COLUMN vcc.ticket_spans.open IS 'Whether the ticket was open';
COMMENT ON COLUMN vcc.ticket_spans.after_open IS 'Whether the ticket was open afterwards; NULL: there is no after';
COMMENT ON COLUMN vcc.ticket_spans.state IS 'desk (open, waiting4agent), customer (open, waiting4entity), other (open, anything else) or closed';
COMMENT ON COLUMN vcc.ticket_spans.agent_name IS 'Full name of the agent in charge; NULL: nobody';
COMMENT ON COLUMN vcc.ticket_spans.agent_user_name IS 'Login of the agent in charge';
COMMENT ON COLUMN vcc.ticket_spans.type IS 'Ticket type';
COMMENT ON COLUMN vcc.ticket_spans.soft_deadline IS 'When the ticket should be done';
COMMENT ON COLUMN vcc.ticket_spans.first_open_time IS 'When the ticket was first opened';
COMMENT ON COLUMN vcc.ticket_spans.span_no IS 'Order of a ticket''s spans: applied_no of the event that ended it; the greatest number there is: it lasts';
COMMENT ON COLUMN vcc.ticket_spans.event_id IS 'The event that ended it; NULL: it lasts';
