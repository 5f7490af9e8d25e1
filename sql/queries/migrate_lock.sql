-- Keeps another `ticketd migrate` out until the end of the transaction.
SELECT pg_advisory_xact_lock(8243910057)
