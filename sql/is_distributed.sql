SELECT to_regproc('vcc.apply_event') IS NOT NULL
