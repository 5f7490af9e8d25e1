-- Where Citus is not installed: functions of its names that distribute nothing, but insist on what Citus insists on.
-- (Its documentation: "Distributed tables", "Distributed functions", "SQL support and workarounds".)
SET allow_system_table_mods = on;

CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY, partkey text, beside regclass);
CREATE TABLE pg_catalog.distributed_functions (id regprocedure PRIMARY KEY, argument text);

CREATE FUNCTION pg_catalog.create_distributed_table(table_name regclass, distribution_column text, colocate_with text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    column_no    smallint;
    column_type  regtype;
    what         text;
BEGIN
    SELECT attnum, atttypid INTO STRICT column_no, column_type FROM pg_attribute
     WHERE attrelid = table_name AND attname = distribution_column AND attnotnull;
    SELECT indexrelid::regclass INTO what FROM pg_index
     WHERE indrelid = table_name AND indisunique AND NOT column_no = ANY (indkey);
    ASSERT NOT FOUND, format('unique index %s lacks %s', what, distribution_column);
    SELECT conname INTO what FROM pg_constraint
     WHERE conrelid = table_name AND (contype IN ('f', 'x') OR contype IN ('p', 'u') AND NOT column_no = ANY (conkey));
    ASSERT NOT FOUND, format('constraint %s', what);
    SELECT tgname INTO what FROM pg_trigger WHERE tgrelid = table_name AND NOT tgisinternal;
    ASSERT NOT FOUND, format('trigger %s', what);
    -- A sequence gives each node numbers of its own: nothing may rely on their order.
    SELECT pg_get_expr(adbin, adrelid) INTO what FROM pg_attrdef WHERE adrelid = table_name AND pg_get_expr(adbin, adrelid) ~ 'nextval';
    ASSERT NOT FOUND, format('default %s', what);
    IF colocate_with <> 'none' THEN
        PERFORM FROM pg_dist_partition p JOIN pg_attribute a ON a.attrelid = p.logicalrelid AND a.attname = p.partkey
          WHERE p.logicalrelid = colocate_with::regclass AND a.atttypid = column_type;
        ASSERT FOUND, format('%s is not co-located', table_name);
    END IF;
    INSERT INTO pg_dist_partition VALUES (table_name, distribution_column, nullif(colocate_with, 'none'));
END
$$;

CREATE FUNCTION pg_catalog.create_distributed_function(function_name regprocedure, distribution_arg_name text, colocate_with text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- The argument is a single value, of the type of the column by which the table is distributed.
    PERFORM FROM pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) a (name, type)
      JOIN pg_dist_partition d ON d.logicalrelid = colocate_with::regclass
      JOIN pg_attribute c ON c.attrelid = d.logicalrelid AND c.attname = d.partkey
     WHERE p.oid = function_name AND a.name = distribution_arg_name AND a.type = c.atttypid AND NOT p.proretset;
    ASSERT FOUND, format('%s has no argument %s', function_name, distribution_arg_name);
    INSERT INTO distributed_functions VALUES (function_name, distribution_arg_name) ON CONFLICT DO NOTHING;
END
$$;
RESET allow_system_table_mods;
