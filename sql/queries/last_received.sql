SELECT (extract(epoch FROM vcc.last_received()) * 1000000)::bigint
