-- Optional: spreads the tables over the nodes of a Citus cluster (PostgreSQL with the extension citus, 11 or newer).
--
--     ticketd migrate
--     psql -d tickets -f citus.sql
--     ticketd migrate
--
-- Run it by hand, on the coordinator, as the owner of schema vcc, while no handler runs; twice does no harm. It distributes
-- vcc.tickets alone. That tells `ticketd migrate`, which distributes all the rest beside it, by project, and makes the
-- functions of a text in which every statement names that one project: what an event reads and writes is on one node.
-- Later ones distribute what they make. Handlers connect to the coordinator, and call vcc.apply_events once for each project.
--
-- What is different here:
--   * A call is committed on its node as soon as it is done, not with the others of its pipeline. An event whose answer
--     was lost comes again as one that waited, and changes nothing the second time.
--   * A project is on one node. The largest project is as large as a node can bear.
--   * applied_no comes from the clock (Unix microseconds) and not from a sequence, of which every node has a part of its
--     own: a ticket's events keep their order when its shard moves. Keep the nodes' clocks right (NTP).
--   * Reports that ask for one project are answered by one node.
--   * Triggers on these tables, such as notify.sql's, Citus does not allow: drop them first.

\set ON_ERROR_STOP on
SELECT create_distributed_table('vcc.tickets', 'project_id', colocate_with => 'none')
 WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'vcc.tickets'::regclass);
