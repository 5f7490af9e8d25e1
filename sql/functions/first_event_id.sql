-- The least identifier (UUIDv7, RFC 9562 section 5.7) of an event received at that time: its first 48 bits are Unix
-- milliseconds.
CREATE OR REPLACE FUNCTION vcc.first_event_id(received_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM received_at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;
COMMENT ON FUNCTION vcc.first_event_id IS 'The least identifier that an event received at that time can have: a bound for event_id, of which the journal''s partitions are made';
