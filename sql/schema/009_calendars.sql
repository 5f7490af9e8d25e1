-- 009: business calendars. Who changes one needs no more than the first four tables: see vcc.prepare_calendars.

CREATE TABLE vcc.calendars (
    calendar_id  bigint PRIMARY KEY,
    name         text NOT NULL,
    time_zone    text NOT NULL,
    is_default   boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX calendars_default ON vcc.calendars (is_default) WHERE is_default;

COMMENT ON TABLE  vcc.calendars IS 'Business calendars: when somebody works. A project without one (vcc.project_calendars) has the default, or none: 24 hours, 7 days';
COMMENT ON COLUMN vcc.calendars.calendar_id IS 'Number that you give it';
COMMENT ON COLUMN vcc.calendars.name IS 'Name, for people';
COMMENT ON COLUMN vcc.calendars.time_zone IS 'Time zone of its days and hours, such as Europe/Budapest';
COMMENT ON COLUMN vcc.calendars.is_default IS 'Whether it is that of all projects without another; one at most';

CREATE TABLE vcc.calendar_hours (
    calendar_id  bigint NOT NULL,
    weekday      smallint NOT NULL CHECK (weekday BETWEEN 1 AND 7),
    opens        time NOT NULL,
    closes       time NOT NULL CHECK (closes > opens),
    valid_from   date NOT NULL DEFAULT '-infinity',
    valid_until  date NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (calendar_id, weekday, opens, valid_from)
);

COMMENT ON TABLE  vcc.calendar_hours IS 'Hours of a week: several rows a day are allowed, over midnight it takes two. What two rows cover counts once';
COMMENT ON COLUMN vcc.calendar_hours.calendar_id IS 'Calendar (vcc.calendars)';
COMMENT ON COLUMN vcc.calendar_hours.weekday IS '1 Monday to 7 Sunday';
COMMENT ON COLUMN vcc.calendar_hours.opens IS 'Local time from which on somebody works';
COMMENT ON COLUMN vcc.calendar_hours.closes IS 'Local time until which somebody works; 24:00 is the end of the day';
COMMENT ON COLUMN vcc.calendar_hours.valid_from IS 'First day of it';
COMMENT ON COLUMN vcc.calendar_hours.valid_until IS 'Last day of it';

CREATE TABLE vcc.calendar_exceptions (
    calendar_id  bigint NOT NULL,
    day          date NOT NULL,
    opens        time,
    closes       time,
    note         text,
    begins       time NOT NULL GENERATED ALWAYS AS (coalesce(opens, '00:00')) STORED,
    PRIMARY KEY (calendar_id, day, begins),
    CHECK ((opens IS NULL) = (closes IS NULL) AND coalesce(closes > opens, true))
);

COMMENT ON TABLE  vcc.calendar_exceptions IS 'Days that are not like their weekday: all rows of a day together replace its hours';
COMMENT ON COLUMN vcc.calendar_exceptions.calendar_id IS 'Calendar (vcc.calendars)';
COMMENT ON COLUMN vcc.calendar_exceptions.day IS 'The local day';
COMMENT ON COLUMN vcc.calendar_exceptions.opens IS 'Local time from which on somebody works; NULL: nobody does that day';
COMMENT ON COLUMN vcc.calendar_exceptions.closes IS 'Local time until which somebody works; 24:00 is the end of the day; NULL: nobody does that day';
COMMENT ON COLUMN vcc.calendar_exceptions.note IS 'Why, for people: the name of the holiday';
COMMENT ON COLUMN vcc.calendar_exceptions.begins IS 'opens, or 00:00: makes up the key';

CREATE TABLE vcc.project_calendars (
    project_id   bigint PRIMARY KEY,
    calendar_id  bigint NOT NULL
);

COMMENT ON TABLE  vcc.project_calendars IS 'Projects that have another calendar than the default';
COMMENT ON COLUMN vcc.project_calendars.project_id IS 'The project';
COMMENT ON COLUMN vcc.project_calendars.calendar_id IS 'Its calendar (vcc.calendars)';

CREATE TABLE vcc.calendar_slots (
    calendar_id  bigint NOT NULL,
    opens_at     timestamptz NOT NULL,
    closes_at    timestamptz NOT NULL,
    clock        timestamp NOT NULL,
    PRIMARY KEY (calendar_id, opens_at)
);
CREATE INDEX calendar_slots_clock ON vcc.calendar_slots (calendar_id, clock);

COMMENT ON TABLE  vcc.calendar_slots IS 'The calendars as instants, made by vcc.prepare_calendars for the years 2000 to 2039: none is longer than its day in UTC, and each such day has one, an empty one at least';
COMMENT ON COLUMN vcc.calendar_slots.calendar_id IS 'Calendar (vcc.calendars)';
COMMENT ON COLUMN vcc.calendar_slots.opens_at IS 'When somebody begins to work';
COMMENT ON COLUMN vcc.calendar_slots.closes_at IS 'When that ends';
COMMENT ON COLUMN vcc.calendar_slots.clock IS 'What a clock shows at opens_at that runs only while somebody works';

-- What it does is a definition: sql/functions/prepare_calendars.sql.
CREATE FUNCTION vcc.calendars_changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

DO $$
DECLARE
    part   text;
    event  text;
BEGIN
    FOREACH part IN ARRAY '{calendars, calendar_hours, calendar_exceptions}'::text[] LOOP
        FOREACH event IN ARRAY ARRAY['made AFTER INSERT ON vcc.%I REFERENCING NEW TABLE AS changed',
            'gone AFTER DELETE ON vcc.%I REFERENCING OLD TABLE AS changed', 'old AFTER UPDATE ON vcc.%I REFERENCING OLD TABLE AS changed',
            'new AFTER UPDATE ON vcc.%I REFERENCING NEW TABLE AS changed', 'emptied AFTER TRUNCATE ON vcc.%I'] LOOP
            EXECUTE format('CREATE TRIGGER ' || event || ' FOR EACH STATEMENT EXECUTE FUNCTION vcc.calendars_changed()', part);
        END LOOP;
    END LOOP;
END
$$;
