-- Where Citus spreads vcc.tickets: the node that has each project.
SELECT DISTINCT p, concat(n.nodename, ':', n.nodeport)
  FROM unnest($1::bigint[]) p
  JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = to_regclass('vcc.tickets')
   AND hashint8(p) BETWEEN s.shardminvalue::integer AND s.shardmaxvalue::integer
  JOIN pg_catalog.pg_dist_placement l USING (shardid)
  JOIN pg_catalog.pg_dist_node n USING (groupid)
 WHERE n.noderole = 'primary'
