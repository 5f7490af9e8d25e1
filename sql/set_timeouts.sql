SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)
