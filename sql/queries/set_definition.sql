SELECT set_config('ticketd.name', $1, true), set_config('ticketd.text', $2, true)
