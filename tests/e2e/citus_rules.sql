-- Where Citus is not installed: functions of its names that distribute nothing, but refuse what Citus is documented to refuse.
SET allow_system_table_mods = on;

CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY, partkey text);
CREATE TABLE pg_catalog.distributed_functions (id regprocedure PRIMARY KEY, argument text);
CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint, shardminvalue text, shardmaxvalue text);
CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint, groupid integer);
CREATE TABLE pg_catalog.pg_dist_node (groupid integer, nodename text, nodeport integer, noderole name);
INSERT INTO pg_catalog.pg_dist_placement VALUES (1, 1), (2, 2);
INSERT INTO pg_catalog.pg_dist_node VALUES (1, 'one', 5432, 'primary'), (2, 'two', 5432, 'primary');
GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_node
    TO PUBLIC;

CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_dist_partition VALUES (table_name, NULL)
$$;

CREATE FUNCTION pg_catalog.create_distributed_table(table_name regclass, distribution_column text, colocate_with text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    column_no  smallint;
    what       text;
BEGIN
    SELECT attnum INTO STRICT column_no FROM pg_attribute
     WHERE attrelid = table_name AND attname = distribution_column AND attnotnull AND atttypid = 'bigint'::regtype;
    SELECT indexrelid::regclass INTO what FROM pg_index
     WHERE indrelid = table_name AND indisunique AND NOT column_no = ANY (indkey);
    ASSERT NOT FOUND, format('unique index %s lacks %s', what, distribution_column);
    SELECT conname INTO what FROM pg_constraint WHERE conrelid = table_name AND contype IN ('f', 'x');
    ASSERT NOT FOUND, format('constraint %s', what);
    SELECT tgname INTO what FROM pg_trigger WHERE tgrelid = table_name AND NOT tgisinternal;
    ASSERT NOT FOUND, format('trigger %s', what);
    -- A sequence gives each node numbers of its own: nothing may rely on their order.
    SELECT pg_get_expr(adbin, adrelid) INTO what FROM pg_attrdef WHERE adrelid = table_name AND pg_get_expr(adbin, adrelid) ~ 'nextval';
    ASSERT NOT FOUND, format('default %s', what);
    ASSERT colocate_with = 'none' OR EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass(colocate_with)),
        format('%s is not co-located', table_name);
    INSERT INTO pg_dist_partition VALUES (table_name, distribution_column);
    INSERT INTO pg_dist_shard VALUES (table_name, 1, '-2147483648', '-1'), (table_name, 2, '0', '2147483647');
END
$$;

CREATE FUNCTION pg_catalog.create_distributed_function(
    function_name regprocedure, distribution_arg_name text DEFAULT NULL, colocate_with text DEFAULT 'default')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- The argument is a single value, of the type of the column by which the table is distributed.
    PERFORM FROM pg_proc p, unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) a (name, type)
     WHERE p.oid = function_name AND a.name = distribution_arg_name AND a.type = 'bigint'::regtype;
    ASSERT FOUND OR distribution_arg_name IS NULL, format('%s has no argument %s', function_name, distribution_arg_name);
    INSERT INTO distributed_functions VALUES (function_name, distribution_arg_name) ON CONFLICT DO NOTHING;
END
$$;
RESET allow_system_table_mods;
