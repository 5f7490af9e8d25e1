-- One pass over the spans of each ticket's life that lasts (vcc.ticket_spans), the first of which begins at opened_at. That may be later
-- than the first events, than the close, even than now: what came before it counts as at it. What has the time of a host whose
-- clock is fast happens now. So no time is negative. Business time is the difference of what a clock shows that runs only while the
-- calendar is open (vcc.calendar_slots; NULL beyond them). It costs nothing where nobody asks for it.
CREATE OR REPLACE VIEW vcc.ticket_metrics AS
SELECT m.project_id, m.ticket_id, m.state, m.opened_at, CASE m.state WHEN 'closed' THEN m.closed_at END AS closed_at,
       m.first_close - m.since AS first_resolution, m.first_close_clock - m.opened_clock AS first_resolution_business,
       CASE m.state WHEN 'closed' THEN m.last_close - m.since END AS full_resolution,
       CASE m.state WHEN 'closed' THEN m.last_close_clock - m.opened_clock END AS full_resolution_business,
       CASE WHEN m.timed THEN m.desk_time END AS desk_time, CASE WHEN m.clocked THEN m.desk_time_business END AS desk_time_business,
       CASE WHEN m.timed THEN m.customer_time END AS customer_time, CASE WHEN m.clocked THEN m.customer_time_business END AS customer_time_business,
       CASE WHEN m.timed THEN m.other_time END AS other_time, CASE WHEN m.clocked THEN m.other_time_business END AS other_time_business,
       CASE WHEN m.timed THEN m.desk_time + m.customer_time + m.other_time END AS open_time,
       CASE WHEN m.clocked THEN m.desk_time_business + m.customer_time_business + m.other_time_business END AS open_time_business,
       CASE WHEN m.desk_first THEN m.first_turn - m.since END AS first_turn,
       CASE WHEN m.desk_first THEN m.first_turn_clock - m.opened_clock END AS first_turn_business,
       m.closes, m.reopens, m.stations, m.agents,
       m.first_agent - m.since AS time_to_assign, m.first_agent_clock - m.opened_clock AS time_to_assign_business,
       CASE WHEN m.timed THEN m.unassigned_time END AS unassigned_time, CASE WHEN m.clocked THEN m.unassigned_time_business END AS unassigned_time_business,
       m.state = 'closed' AND m.closes = 1 AND m.with_customer = 0 AND m.agents <= 1 AS one_touch,
       CASE WHEN m.state <> 'closed' THEN now() - m.since END AS age,
       CASE WHEN m.state <> 'closed' THEN m.now_clock - m.opened_clock END AS age_business,
       CASE WHEN m.state <> 'closed' THEN now() - m.last_event_at END AS idle,
       CASE WHEN m.state <> 'closed' THEN m.now_clock - m.last_event_clock END AS idle_business,
       CASE WHEN m.state <> 'closed' THEN now() - m.state_since END AS in_state,
       CASE WHEN m.state <> 'closed' THEN m.now_clock - m.state_since_clock END AS in_state_business,
       m.complete, CASE m.state WHEN 'closed' THEN m.agents_at_close[1] END AS closed_agent_name,
       CASE m.state WHEN 'closed' THEN m.logins_at_close[1] END AS closed_agent_user_name
  FROM (SELECT s.project_id, s.ticket_id, s.opened_at, s.since, max(s.opened_clock) AS opened_clock,
               max(s.state) FILTER (WHERE s.ended_at IS NULL) AS state,
               max(s.ends_clock) FILTER (WHERE s.ended_at IS NULL) AS now_clock,
               s.last_event_at, max(s.last_event_clock) AS last_event_clock,
               min(s.began_at) FILTER (WHERE s.closing AND s.whole) AS first_close,
               min(s.began_clock) FILTER (WHERE s.closing AND s.whole) AS first_close_clock,
               max(s.started_at) FILTER (WHERE s.closing) AS closed_at, max(s.began_at) FILTER (WHERE s.closing) AS last_close,
               max(s.began_clock) FILTER (WHERE s.closing) AS last_close_clock,
               array_agg(s.agent_name ORDER BY s.span_no DESC) FILTER (WHERE s.closing) AS agents_at_close,
               array_agg(s.agent_user_name ORDER BY s.span_no DESC) FILTER (WHERE s.closing) AS logins_at_close,
               count(*) FILTER (WHERE s.closing) AS closes,
               count(*) FILTER (WHERE s.open AND NOT s.before_open) AS reopens,
               min(s.began_at) FILTER (WHERE s.state IN ('customer', 'closed')) AS first_turn,
               min(s.began_clock) FILTER (WHERE s.state IN ('customer', 'closed')) AS first_turn_clock,
               bool_or(s.first AND s.state = 'desk') AS desk_first,
               count(*) FILTER (WHERE s.state = 'customer') AS with_customer,
               count(*) FILTER (WHERE s.agent_name IS DISTINCT FROM s.before_agent AND s.agent_name IS NOT NULL) AS stations,
               count(DISTINCT s.agent_name) AS agents,
               min(s.begins_at) FILTER (WHERE s.agent_name IS NOT NULL AND s.whole) AS first_agent,
               min(s.begins_clock) FILTER (WHERE s.agent_name IS NOT NULL AND s.whole) AS first_agent_clock,
               max(s.begins_at) FILTER (WHERE s.state IS DISTINCT FROM s.before_state) AS state_since,
               max(s.begins_clock) FILTER (WHERE s.state IS DISTINCT FROM s.before_state) AS state_since_clock,
               coalesce(sum(s.ends_at - s.begins_at) FILTER (WHERE s.state = 'desk'), interval '0') AS desk_time,
               coalesce(sum(s.ends_clock - s.begins_clock) FILTER (WHERE s.state = 'desk'), interval '0') AS desk_time_business,
               coalesce(sum(s.ends_at - s.begins_at) FILTER (WHERE s.state = 'customer'), interval '0') AS customer_time,
               coalesce(sum(s.ends_clock - s.begins_clock) FILTER (WHERE s.state = 'customer'), interval '0') AS customer_time_business,
               -- What is closed when it is first seen was open until then, nobody knows how.
               coalesce(sum(s.ends_at - s.begins_at) FILTER (WHERE s.state = 'other'), interval '0')
                   + coalesce(sum(s.began_at - s.begins_at) FILTER (WHERE s.first AND NOT s.open), interval '0') AS other_time,
               coalesce(sum(s.ends_clock - s.begins_clock) FILTER (WHERE s.state = 'other'), interval '0')
                   + coalesce(sum(s.began_clock - s.begins_clock) FILTER (WHERE s.first AND NOT s.open), interval '0') AS other_time_business,
               coalesce(sum(s.ends_at - s.begins_at) FILTER (WHERE s.open AND s.agent_name IS NULL), interval '0')
                   + coalesce(sum(s.began_at - s.begins_at) FILTER (WHERE s.first AND NOT s.open AND s.agent_name IS NULL), interval '0') AS unassigned_time,
               coalesce(sum(s.ends_clock - s.begins_clock) FILTER (WHERE s.open AND s.agent_name IS NULL), interval '0')
                   + coalesce(sum(s.began_clock - s.begins_clock) FILTER (WHERE s.first AND NOT s.open AND s.agent_name IS NULL), interval '0') AS unassigned_time_business,
               -- What is not known is NULL and not 0: the journal was cut, or the calendar is missing.
               bool_and(s.begins_at IS NOT NULL) AS timed,
               bool_and(s.begins_clock IS NOT NULL AND s.ends_clock IS NOT NULL) FILTER (WHERE s.open OR s.first) IS NOT FALSE AS clocked,
               coalesce(bool_or(s.first AND s.began_as = 'add'), false) AS complete
          FROM (SELECT b.*, CASE WHEN b.first THEN b.since ELSE b.began_at END AS begins_at,
                       CASE WHEN b.first THEN b.opened_clock ELSE b.began_clock END AS begins_clock
                  FROM (SELECT c.*, bool_or(c.first) OVER (PARTITION BY c.project_id, c.ticket_id) AS whole,
                               lag(c.state) OVER span AS before_state, lag(c.agent_name) OVER span AS before_agent,
                               CASE WHEN c.calendar_id IS NULL THEN c.began_at AT TIME ZONE 'UTC' ELSE (
                           SELECT max(k.clock + (least(c.began_at, k.closes_at) - k.opens_at)) FROM vcc.calendar_slots k
                            WHERE k.calendar_id = c.calendar_id AND k.opens_at BETWEEN date_trunc('day', c.began_at, 'UTC') AND c.began_at) END AS began_clock,
                               CASE WHEN c.calendar_id IS NULL THEN c.ends_at AT TIME ZONE 'UTC' ELSE (
                           SELECT max(k.clock + (least(c.ends_at, k.closes_at) - k.opens_at)) FROM vcc.calendar_slots k
                            WHERE k.calendar_id = c.calendar_id AND k.opens_at BETWEEN date_trunc('day', c.ends_at, 'UTC') AND c.ends_at) END AS ends_clock,
                               CASE WHEN c.first OR c.ended_at IS NULL THEN CASE WHEN c.calendar_id IS NULL THEN c.since AT TIME ZONE 'UTC' ELSE (
                           SELECT max(k.clock + (least(c.since, k.closes_at) - k.opens_at)) FROM vcc.calendar_slots k
                            WHERE k.calendar_id = c.calendar_id AND k.opens_at BETWEEN date_trunc('day', c.since, 'UTC') AND c.since) END END AS opened_clock,
                               CASE WHEN c.ended_at IS NULL THEN CASE WHEN c.calendar_id IS NULL THEN c.last_event_at AT TIME ZONE 'UTC' ELSE (
                           SELECT max(k.clock + (least(c.last_event_at, k.closes_at) - k.opens_at)) FROM vcc.calendar_slots k
                            WHERE k.calendar_id = c.calendar_id AND k.opens_at BETWEEN date_trunc('day', c.last_event_at, 'UTC') AND c.last_event_at) END END AS last_event_clock
                          FROM (SELECT o.*, least(o.opened_at, now()) AS since, greatest(least(o.ended_at, now()), least(o.opened_at, now())) AS ends_at,
                                       CASE WHEN o.started_at IS NOT NULL THEN least(greatest(o.started_at, o.opened_at), now()) END AS began_at
                                  FROM (
                                SELECT n.project_id, n.ticket_id, n.first, n.began_as, n.before_open, n.open, n.state,
                                       n.agent_name, n.agent_user_name, n.started_at, n.ended_at, n.span_no,
                                       NOT n.open AND (n.before_open OR n.first) AS closing, least(t.last_event_at, now()) AS last_event_at,
                                       coalesce(t.first_open_time, max(n.started_at) FILTER (WHERE n.first) OVER (
                                           PARTITION BY n.project_id, n.ticket_id), t.first_event_at) AS opened_at,
                                       coalesce(own.calendar_id, preset.calendar_id) AS calendar_id
                                  FROM vcc.ticket_spans n
                                  JOIN vcc.tickets t ON t.project_id = n.project_id AND t.ticket_id = n.ticket_id
                                  LEFT JOIN vcc.project_calendars own ON own.project_id = t.project_id
                                  LEFT JOIN vcc.calendars preset ON preset.is_default
                                 WHERE n.present) o) c
                        WINDOW span AS (PARTITION BY c.project_id, c.ticket_id ORDER BY c.span_no)) b) s
         GROUP BY s.project_id, s.ticket_id, s.opened_at, s.since, s.last_event_at) m;

COMMENT ON VIEW   vcc.ticket_metrics IS
    'How the desk did with each ticket that exists: one row for each, of its life since it was last added. Ask for one project. '
    'Averages: only of finished times or only of running ones, and of complete tickets. Not known are replies, satisfaction, '
    'priorities, channels, merges and handling time: events do not tell of them';
COMMENT ON COLUMN vcc.ticket_metrics.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.ticket_metrics.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.ticket_metrics.state IS 'desk (open, waiting4agent), customer (open, waiting4entity), other (open, anything else) or closed';
COMMENT ON COLUMN vcc.ticket_metrics.opened_at IS 'first_open_time, or where that is not known when its first event was received';
COMMENT ON COLUMN vcc.ticket_metrics.closed_at IS 'When it was closed the last time; NULL: it is open';
COMMENT ON COLUMN vcc.ticket_metrics.first_resolution IS 'From opened_at to the first time that it was closed: a reopening does not change it';
COMMENT ON COLUMN vcc.ticket_metrics.first_resolution_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.full_resolution IS 'From opened_at to closed_at, time closed in between among it; NULL: it is open';
COMMENT ON COLUMN vcc.ticket_metrics.full_resolution_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.desk_time IS 'How long it was the desk''s turn: open and waiting4agent; until it was closed the last time, or now';
COMMENT ON COLUMN vcc.ticket_metrics.desk_time_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.customer_time IS 'How long it was the customer''s turn: open and waiting4entity';
COMMENT ON COLUMN vcc.ticket_metrics.customer_time_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.other_time IS 'How long it was open with another sub-status';
COMMENT ON COLUMN vcc.ticket_metrics.other_time_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.open_time IS 'Sum of the three';
COMMENT ON COLUMN vcc.ticket_metrics.open_time_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.first_turn IS 'Where it began with the desk: from opened_at to the first time that it went to the customer or was closed. Events do not know replies';
COMMENT ON COLUMN vcc.ticket_metrics.first_turn_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.closes IS 'How many times it became closed, or was so when it was first seen';
COMMENT ON COLUMN vcc.ticket_metrics.reopens IS 'How many times it was closed and opened again';
COMMENT ON COLUMN vcc.ticket_metrics.stations IS 'Runs of one agent: A, B, A is 3; A, nobody, A is 2';
COMMENT ON COLUMN vcc.ticket_metrics.agents IS 'Different agents, by name';
COMMENT ON COLUMN vcc.ticket_metrics.time_to_assign IS 'From opened_at to the first agent';
COMMENT ON COLUMN vcc.ticket_metrics.time_to_assign_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.unassigned_time IS 'How long it was open without an agent';
COMMENT ON COLUMN vcc.ticket_metrics.unassigned_time_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.one_touch IS 'Whether it is closed, was closed once, never waited for the customer, and had one agent at most';
COMMENT ON COLUMN vcc.ticket_metrics.age IS 'Since opened_at; open tickets only';
COMMENT ON COLUMN vcc.ticket_metrics.age_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.idle IS 'Since an event last changed it; open tickets only';
COMMENT ON COLUMN vcc.ticket_metrics.idle_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.in_state IS 'Since it is in its state; open tickets only';
COMMENT ON COLUMN vcc.ticket_metrics.in_state_business IS 'The same in business time: the hours of the project''s calendar, a day of it 24 of them';
COMMENT ON COLUMN vcc.ticket_metrics.complete IS 'Whether its first event was an add and the journal has it: only these belong into averages of times since opening';
COMMENT ON COLUMN vcc.ticket_metrics.closed_agent_name IS 'Full name of the agent in charge when it was closed the last time; NULL: it is open, or nobody was';
COMMENT ON COLUMN vcc.ticket_metrics.closed_agent_user_name IS 'Login of that agent';
