-- The first of every `ticketd migrate`: sets all that what follows depends on, whatever the role or the database have set. A
-- statement that does not get its lock soon gives up, for everybody waits behind it.
SELECT pg_catalog.set_config(name, value, true)
  FROM (VALUES ('search_path', 'pg_catalog'), ('lock_timeout', '500ms'), ('statement_timeout', '0'),
               ('client_min_messages', 'warning'), ('check_function_bodies', 'off'), ('standard_conforming_strings', 'on'),
               ('array_nulls', 'on'), ('transform_null_equals', 'off'), ('timezone', 'UTC'), ('datestyle', 'ISO'),
               ('intervalstyle', 'postgres'), ('bytea_output', 'hex'), ('row_security', 'off'),
               ('citus.multi_shard_modify_mode', 'sequential')) s (name, value)  -- unknown without Citus, and no error then
