-- Where Citus spreads vcc.tickets: a project for each node, so that `ticketd check` can try all of them.
SELECT min(p), concat(n.nodename, ':', n.nodeport)
  FROM generate_series(1, 10000) p
  JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = to_regclass('vcc.tickets')
   AND hashint8(p) BETWEEN s.shardminvalue::integer AND s.shardmaxvalue::integer
  JOIN pg_catalog.pg_dist_placement l USING (shardid)
  JOIN pg_catalog.pg_dist_node n USING (groupid)
 WHERE n.noderole = 'primary'
 GROUP BY n.nodename, n.nodeport
