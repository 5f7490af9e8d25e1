-- 007: functions and views are definitions from here on: made anew by `ticketd migrate` wherever their text differs from
-- what was applied. What 0.1.0 had, citus.sql among it, and the program has no more goes with this row, which no definition
-- has the name of.
INSERT INTO vcc.definitions (name, digest, objects)
VALUES ('0.1.0', '', '{function write_tickets, function upsert_ticket, function delete_ticket, function apply_event}');
