SELECT string_agg(tgname, ', ' ORDER BY tgname) FROM pg_trigger
 WHERE tgrelid = 'vcc.tickets'::regclass AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 16 <> 0
