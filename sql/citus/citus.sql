-- Optional: spreads the tables over the nodes of a Citus cluster. docs/citus.md says when and how, step by step.
--
--     ticketd migrate
--     psql -d tickets -f citus.sql
--     ticketd migrate
--
-- Run it by hand, on the coordinator, as the owner of schema vcc, while no handler runs; twice does no harm. It distributes
-- vcc.tickets alone. That tells `ticketd migrate`, which distributes all the rest beside it, by project.

\set ON_ERROR_STOP on
SELECT create_distributed_table('vcc.tickets', 'project_id', colocate_with => 'none')
 WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'vcc.tickets'::regclass);
