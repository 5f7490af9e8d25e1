/* Times: every row is a text and the instant that it means, written in UTC, or what is wrong with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "event/timestamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct row {
    const char *zone; /* NULL: UTC */
    const char *text;
    const char *expected; /* as show() writes it, or a part of what is wrong */
};

static struct row rows[] = {
    /* The samples. */
    {NULL, "2024-02-15T15:46:46+01:00", "2024-02-15T14:46:46.000000"},
    {NULL, "2024-02-15T15:46:00+01:00", "2024-02-15T14:46:00.000000"},

    /* Forms. */
    {NULL, "2024-02-15T15:46:46Z", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15T15:46:46z", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15t15:46:46Z", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15t15:46:46z", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15 15:46:46Z", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15T15:46:46", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15 15:46:46", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15T15:46Z", "2024-02-15T15:46:00.000000"},
    {NULL, "2024-02-15T15:46", "2024-02-15T15:46:00.000000"},
    {NULL, "2024-02-15 15:46+02:00", "2024-02-15T13:46:00.000000"},
    {NULL, "2024-02-15", "2024-02-15T00:00:00.000000"},
    {NULL, "2024-02-15T00:00:00", "2024-02-15T00:00:00.000000"},
    {NULL, "2024-02-15T23:59:59", "2024-02-15T23:59:59.000000"},
    {NULL, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000"},
    {NULL, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.000000"},

    /* Fractions. */
    {NULL, "2024-02-15T15:46:46.5Z", "2024-02-15T15:46:46.500000"},
    {NULL, "2024-02-15T15:46:46,5Z", "2024-02-15T15:46:46.500000"},
    {NULL, "2024-02-15T15:46:46.05", "2024-02-15T15:46:46.050000"},
    {NULL, "2024-02-15T15:46:46.123Z", "2024-02-15T15:46:46.123000"},
    {NULL, "2024-02-15T15:46:46.123456Z", "2024-02-15T15:46:46.123456"},
    {NULL, "2024-02-15T15:46:46.000001Z", "2024-02-15T15:46:46.000001"},
    {NULL, "2024-02-15T15:46:46.1234567Z", "2024-02-15T15:46:46.123456"},
    {NULL, "2024-02-15T15:46:46.999999999Z", "2024-02-15T15:46:46.999999"},
    {NULL, "2024-02-15T15:46:46.0000009Z", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15T15:46:46.12345678901234567890123456789+01:00", "2024-02-15T14:46:46.123456"},
    {NULL, "1969-12-31T23:59:59.75Z", "1969-12-31T23:59:59.750000"},
    {NULL, "2024-02-15T15:46:46.Z", "not an ISO"},
    {NULL, "2024-02-15T15:46:46.", "not an ISO"},
    {NULL, "2024-02-15T15:46:46,", "not an ISO"},
    {NULL, "2024-02-15T15:46:46.+01:00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46.5.5Z", "not an ISO"},
    {NULL, "2024-02-15T15:46:46.5 Z", "not an ISO"},
    {NULL, "2024-02-15T15:46:46.x", "not an ISO"},
    {NULL, "2024-02-15T15:46:46:5Z", "not an ISO"},
    {NULL, "2024-02-15T15:46.5Z", "not an ISO"},
    {NULL, "2024-02-15T15.5Z", "not an ISO"},
    {NULL, "2024-02-15.5", "not an ISO"},

    /* Offsets. */
    {NULL, "2024-02-15T15:46:46+01", "2024-02-15T14:46:46.000000"},
    {NULL, "2024-02-15T15:46:46+0100", "2024-02-15T14:46:46.000000"},
    {NULL, "2024-02-15T15:46:46-05:30", "2024-02-15T21:16:46.000000"},
    {NULL, "2024-02-15T15:46:46-0530", "2024-02-15T21:16:46.000000"},
    {NULL, "2024-02-15T15:46:46-05", "2024-02-15T20:46:46.000000"},
    {NULL, "2024-02-15T15:46:46+05:45", "2024-02-15T10:01:46.000000"},
    {NULL, "2024-02-15T15:46:46+00:00", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15T15:46:46-00:00", "2024-02-15T15:46:46.000000"},
    {NULL, "2024-02-15T15:46:46-00:30", "2024-02-15T16:16:46.000000"},
    {NULL, "2024-02-15T15:46:46+15:59", "2024-02-14T23:47:46.000000"},
    {NULL, "2024-02-15T15:46:46-15:59", "2024-02-16T07:45:46.000000"},
    {NULL, "2024-02-15T15:46:46+1559", "2024-02-14T23:47:46.000000"},
    {NULL, "2024-02-15T15:46:46+15", "2024-02-15T00:46:46.000000"},
    {NULL, "2024-02-15T15:46:46+00:59", "2024-02-15T14:47:46.000000"},
    {NULL, "2024-03-01T00:30:00+01:00", "2024-02-29T23:30:00.000000"},
    {NULL, "2023-12-31T23:30:00-01:00", "2024-01-01T00:30:00.000000"},
    {NULL, "2024-02-15T15:46:46+16:00", "offset must be at most"},
    {NULL, "2024-02-15T15:46:46-16:00", "offset must be at most"},
    {NULL, "2024-02-15T15:46:46+16", "offset must be at most"},
    {NULL, "2024-02-15T15:46:46+1600", "offset must be at most"},
    {NULL, "2024-02-15T15:46:46+24:00", "offset must be at most"},
    {NULL, "2024-02-15T15:46:46+99:00", "offset must be at most"},
    {NULL, "2024-02-15T15:46:46+01:60", "minutes of the offset"},
    {NULL, "2024-02-15T15:46:46-0199", "minutes of the offset"},
    {NULL, "2024-02-15T15:46:46+1", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+", "not an ISO"},
    {NULL, "2024-02-15T15:46:46-", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+1:00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+01:", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+01:0", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+010", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+01000", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+01:000", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+01:00:00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+01::00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46 +01:00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46 Z", "not an ISO"},
    {NULL, "2024-02-15T15:46:46ZZ", "not an ISO"},
    {NULL, "2024-02-15T15:46:46Z+01:00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46+-1:00", "not an ISO"},
    {NULL, "2024-02-15T15:46:46-+01:00", "not an ISO"},
    {NULL,
     "2024-02-15T15:46:46\xe2\x88\x92"
     "01:00",
     "not an ISO"},
    {NULL, "2024-02-15T15:46:46 UTC", "not an ISO"},
    {NULL, "2024-02-15T15:46:46UTC", "not an ISO"},
    {NULL, "2024-02-15T15:46:46CET", "not an ISO"},
    {NULL, "2024-02-15T15:46:46A", "not an ISO"},
    {NULL, "2024-02-15T15:46:46[Europe/Budapest]", "not an ISO"},
    {NULL, "2024-02-15Z", "not an ISO"},
    {NULL, "2024-02-15+01:00", "not an ISO"},

    /* Days. */
    {NULL, "2024-02-29", "2024-02-29T00:00:00.000000"},
    {NULL, "2000-02-29", "2000-02-29T00:00:00.000000"},
    {NULL, "2400-02-29", "2400-02-29T00:00:00.000000"},
    {NULL, "0004-02-29", "0004-02-29T00:00:00.000000"},
    {NULL, "1900-02-28", "1900-02-28T00:00:00.000000"},
    {NULL, "1900-03-01", "1900-03-01T00:00:00.000000"},
    {NULL, "2023-02-28", "2023-02-28T00:00:00.000000"},
    {NULL, "2024-03-01", "2024-03-01T00:00:00.000000"},
    {NULL, "2024-01-31", "2024-01-31T00:00:00.000000"},
    {NULL, "2024-03-31", "2024-03-31T00:00:00.000000"},
    {NULL, "2024-04-30", "2024-04-30T00:00:00.000000"},
    {NULL, "2024-05-31", "2024-05-31T00:00:00.000000"},
    {NULL, "2024-06-30", "2024-06-30T00:00:00.000000"},
    {NULL, "2024-07-31", "2024-07-31T00:00:00.000000"},
    {NULL, "2024-08-31", "2024-08-31T00:00:00.000000"},
    {NULL, "2024-09-30", "2024-09-30T00:00:00.000000"},
    {NULL, "2024-10-31", "2024-10-31T00:00:00.000000"},
    {NULL, "2024-11-30", "2024-11-30T00:00:00.000000"},
    {NULL, "2024-12-31", "2024-12-31T00:00:00.000000"},
    {NULL, "1900-02-29", "no such day"},
    {NULL, "2100-02-29", "no such day"},
    {NULL, "2023-02-29", "no such day"},
    {NULL, "2024-02-30", "no such day"},
    {NULL, "2024-01-32", "no such day"},
    {NULL, "2024-03-32", "no such day"},
    {NULL, "2024-04-31", "no such day"},
    {NULL, "2024-05-32", "no such day"},
    {NULL, "2024-06-31", "no such day"},
    {NULL, "2024-07-32", "no such day"},
    {NULL, "2024-08-32", "no such day"},
    {NULL, "2024-09-31", "no such day"},
    {NULL, "2024-10-32", "no such day"},
    {NULL, "2024-11-31", "no such day"},
    {NULL, "2024-12-32", "no such day"},
    {NULL, "2024-01-00", "no such day"},
    {NULL, "2024-02-30T10:00:00Z", "no such day"},
    {NULL, "2024-00-15", "month must be"},
    {NULL, "2024-13-15", "month must be"},
    {NULL, "2024-99-99", "month must be"},
    {NULL, "0000-00-00 00:00:00", "year must be"},
    {NULL, "0000-01-01", "year must be"},
    {NULL, "0000-12-31T23:59:59Z", "year must be"},
    {NULL, "0001-01-01", "0001-01-01T00:00:00.000000"},
    {NULL, "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000"},
    {NULL, "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999"},
    {NULL, "9999-12-31", "9999-12-31T00:00:00.000000"},
    {NULL, "10000-01-01", "not an ISO"},
    {NULL, "+2024-02-15", "not an ISO"},
    {NULL, "-2024-02-15", "not an ISO"},
    {NULL, "-0001-01-01", "not an ISO"},
    {NULL, "+010000-01-01", "not an ISO"},

    /* Clocks. */
    {NULL, "2024-02-15T24:00:00Z", "hour must be"},
    {NULL, "2024-02-15T24:00", "hour must be"},
    {NULL, "2024-02-15T25:00:00Z", "hour must be"},
    {NULL, "2024-02-15T99:00:00Z", "hour must be"},
    {NULL, "2024-02-15T23:60:00Z", "minute must be"},
    {NULL, "2024-02-15T23:99:00Z", "minute must be"},
    {NULL, "2024-02-15T23:59:61Z", "second must be"},
    {NULL, "2024-02-15T23:59:99Z", "second must be"},
    {NULL, "2024-02-15T15:46:60Z", "2024-02-15T15:47:00.000000"},
    {NULL, "2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000"},
    {NULL, "2016-12-31T23:59:60.25Z", "2017-01-01T00:00:00.250000"},
    {NULL, "2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00.000000"},
    {NULL, "2024-02-29T23:59:60Z", "2024-03-01T00:00:00.000000"},
    {NULL, "2024-02-15T15:59:60", "2024-02-15T16:00:00.000000"},

    /* What others take for a time. */
    {NULL, "", "not an ISO"},
    {NULL, " ", "not an ISO"},
    {NULL, "now", "not an ISO"},
    {NULL, "today", "not an ISO"},
    {NULL, "tomorrow", "not an ISO"},
    {NULL, "yesterday", "not an ISO"},
    {NULL, "infinity", "not an ISO"},
    {NULL, "-infinity", "not an ISO"},
    {NULL, "epoch", "not an ISO"},
    {NULL, "allballs", "not an ISO"},
    {NULL, "null", "not an ISO"},
    {NULL, "1708008406", "not an ISO"},
    {NULL, "1708008406000", "not an ISO"},
    {NULL, "-1708008406", "not an ISO"},
    {NULL, "@1708008406", "not an ISO"},
    {NULL, "1708008406.5", "not an ISO"},
    {NULL, "20240215", "not an ISO"},
    {NULL, "20240215T154646Z", "not an ISO"},
    {NULL, "2024-02-15T154646Z", "not an ISO"},
    {NULL, "20240215T15:46:46Z", "not an ISO"},
    {NULL, "2024", "not an ISO"},
    {NULL, "2024-02", "not an ISO"},
    {NULL, "2024-02-", "not an ISO"},
    {NULL, "2024-W07-4", "not an ISO"},
    {NULL, "2024-W07", "not an ISO"},
    {NULL, "2024W074", "not an ISO"},
    {NULL, "2024-046", "not an ISO"},
    {NULL, "2024-2-15", "not an ISO"},
    {NULL, "2024-02-5", "not an ISO"},
    {NULL, "24-02-15", "not an ISO"},
    {NULL, "15-02-2024", "not an ISO"},
    {NULL, "2024/02/15", "not an ISO"},
    {NULL, "2024.02.15", "not an ISO"},
    {NULL, "02/15/2024", "not an ISO"},
    {NULL, "Thu, 15 Feb 2024 15:46:46 +0100", "not an ISO"},
    {NULL, "Feb 15 2024", "not an ISO"},
    {NULL, "2024-02-15T", "not an ISO"},
    {NULL, "2024-02-15 ", "not an ISO"},
    {NULL, "2024-02-15TZ", "not an ISO"},
    {NULL, "2024-02-15T15", "not an ISO"},
    {NULL, "2024-02-15T15Z", "not an ISO"},
    {NULL, "2024-02-15T15:", "not an ISO"},
    {NULL, "2024-02-15T15:46:", "not an ISO"},
    {NULL, "2024-02-15T15:46:4", "not an ISO"},
    {NULL, "2024-02-15T15:4:46", "not an ISO"},
    {NULL, "2024-02-15T5:46:46", "not an ISO"},
    {NULL, "2024-02-15T15:46:046", "not an ISO"},
    {NULL, "2024-02-15T-5:46:46", "not an ISO"},
    {NULL, "2024-02-15T15-46-46", "not an ISO"},
    {NULL, "2024-02-15  15:46:46", "not an ISO"},
    {NULL, "2024-02-15T 15:46:46", "not an ISO"},
    {NULL, "2024-02-15\t15:46:46", "not an ISO"},
    {NULL, "2024-02-15_15:46:46", "not an ISO"},
    {NULL, "2024-02-1515:46:46", "not an ISO"},
    {NULL, " 2024-02-15T15:46:46Z", "not an ISO"},
    {NULL, "2024-02-15T15:46:46Z ", "not an ISO"},
    {NULL, "2024-02-15T15:46:46Z\n", "not an ISO"},
    {NULL, "2024-02-15T15:46:46 PM", "not an ISO"},
    {NULL, "2024-02-15T03:46:46pm", "not an ISO"},
    {NULL, "2024-02-15 BC", "not an ISO"},
    {NULL, "T15:46:46Z", "not an ISO"},
    {NULL, "15:46:46", "not an ISO"},
    {NULL, "P1D", "not an ISO"},
    {NULL, "2024-02-15/2024-02-16", "not an ISO"},
    {NULL, "2024-02-1\xd9\xa5", "not an ISO"},

    /* A zone with summer time: 2024-03-31 02:00 → 03:00, 2024-10-27 03:00 → 02:00. */
    {"Europe/Budapest", "2024-02-15T15:46:46", "2024-02-15T14:46:46.000000"},
    {"Europe/Budapest", "2024-07-15T15:46:46", "2024-07-15T13:46:46.000000"},
    {"Europe/Budapest", "2024-07-15T15:46:46.25", "2024-07-15T13:46:46.250000"},
    {"Europe/Budapest", "2024-07-15T15:46:46Z", "2024-07-15T15:46:46.000000"},
    {"Europe/Budapest", "2024-07-15T15:46:46+01:00", "2024-07-15T14:46:46.000000"},
    {"Europe/Budapest", "2024-07-15T15:46:46-00:00", "2024-07-15T15:46:46.000000"},
    {"Europe/Budapest", "2024-02-15", "2024-02-14T23:00:00.000000"},
    {"Europe/Budapest", "2024-07-15", "2024-07-14T22:00:00.000000"},
    {"Europe/Budapest", "2024-03-30T02:30:00", "2024-03-30T01:30:00.000000"},
    {"Europe/Budapest", "2024-03-31", "2024-03-30T23:00:00.000000"},
    {"Europe/Budapest", "2024-03-31T01:59:59", "2024-03-31T00:59:59.000000"},
    {"Europe/Budapest", "2024-03-31T01:59:60", "2024-03-31T01:00:00.000000"},
    {"Europe/Budapest", "2024-03-31T02:00:00", "2024-03-31T01:00:00.000000"},
    {"Europe/Budapest", "2024-03-31T02:30:00", "2024-03-31T01:30:00.000000"},
    {"Europe/Budapest", "2024-03-31T02:59:59", "2024-03-31T01:59:59.000000"},
    {"Europe/Budapest", "2024-03-31T03:00:00", "2024-03-31T01:00:00.000000"},
    {"Europe/Budapest", "2024-03-31T03:30:00", "2024-03-31T01:30:00.000000"},
    {"Europe/Budapest", "2024-10-27T01:59:59", "2024-10-26T23:59:59.000000"},
    {"Europe/Budapest", "2024-10-27T02:00:00", "2024-10-27T00:00:00.000000"},
    {"Europe/Budapest", "2024-10-27T02:30:00", "2024-10-27T00:30:00.000000"},
    {"Europe/Budapest", "2024-10-27T02:59:59", "2024-10-27T00:59:59.000000"},
    {"Europe/Budapest", "2024-10-27T03:00:00", "2024-10-27T02:00:00.000000"},
    {"Europe/Budapest", "2024-10-27T02:30:00+01:00", "2024-10-27T01:30:00.000000"},
    {"Europe/Budapest", "2024-10-28", "2024-10-27T23:00:00.000000"},
    {"Europe/Budapest", "2500-07-15T12:00:00", "2500-07-15T10:00:00.000000"},

    /* West of Greenwich, where a local time is later in UTC: 2024-03-10 and 2024-11-03 at 02:00. */
    {"America/New_York", "2024-02-15T15:46:46", "2024-02-15T20:46:46.000000"},
    {"America/New_York", "2024-03-10T01:59:59", "2024-03-10T06:59:59.000000"},
    {"America/New_York", "2024-03-10T02:30:00", "2024-03-10T07:30:00.000000"},
    {"America/New_York", "2024-03-10T03:00:00", "2024-03-10T07:00:00.000000"},
    {"America/New_York", "2024-11-03T01:30:00", "2024-11-03T05:30:00.000000"},
    {"America/New_York", "2024-11-03T02:00:00", "2024-11-03T07:00:00.000000"},

    /* Half an hour of summer time; a day that never was (Samoa went over the date line); midnights that never were. */
    {"Australia/Lord_Howe", "2024-04-07T01:45:00", "2024-04-06T14:45:00.000000"},
    {"Australia/Lord_Howe", "2024-10-06T02:15:00", "2024-10-05T15:45:00.000000"},
    {"Pacific/Apia", "2011-12-29T23:59:59", "2011-12-30T09:59:59.000000"},
    {"Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T22:00:00.000000"},
    {"Pacific/Apia", "2011-12-31T00:00:00", "2011-12-30T10:00:00.000000"},
    {"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00.000000"},
    {"Asia/Kathmandu", "2024-02-15T12:00:00", "2024-02-15T06:15:00.000000"},
    {"Pacific/Kiritimati", "2024-02-15", "2024-02-14T10:00:00.000000"},
};

static struct unix_row {
    int64_t number;
    const char *expected;
} unix_rows[] = {
    {0, "1970-01-01T00:00:00.000000"},
    {1, "1970-01-01T00:00:01.000000"},
    {-1, "1969-12-31T23:59:59.000000"},
    {1708008406, "2024-02-15T14:46:46.000000"},
    {1708008406123, "2024-02-15T14:46:46.123000"},
    {99999999999, "5138-11-16T09:46:39.000000"},
    {100000000000, "1973-03-03T09:46:40.000000"},
    {100000000001, "1973-03-03T09:46:40.001000"},
    {-100000000000, "1966-10-31T14:13:20.000000"},
    {-100000000001, "1966-10-31T14:13:19.999000"},
    {-62135596800, "0001-01-01T00:00:00.000000"},
    {-62135596801, "year must be"},
    {-99999999999, "year must be"},
    {-62135596800000, "0001-01-01T00:00:00.000000"},
    {-62135596800001, "year must be"},
    {253402300799999, "9999-12-31T23:59:59.999000"},
    {253402300800000, "year must be"},
    {9007199254740991, "year must be"},
    {-9007199254740991, "year must be"},
    {INT64_MAX, "year must be"},
    {INT64_MIN, "year must be"},
};

static void show(int64_t microseconds, char text[64])
{
    int64_t seconds = microseconds / 1000000 - (microseconds % 1000000 < 0);
    time_t t = (time_t)seconds;
    struct tm tm;
    gmtime_r(&t, &tm);
    snprintf(text, 64, "%04d-%02d-%02dT%02d:%02d:%02d.%06" PRId64, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
             tm.tm_hour, tm.tm_min, tm.tm_sec, microseconds - seconds * 1000000);
}

static void check(const char *wrong, int64_t microseconds, const char *expected)
{
    char shown[64];

    if (*expected >= '0' && *expected <= '9') {
        assert_null(wrong);
        show(microseconds, shown);
        assert_string_equal(shown, expected);
    } else if (!wrong || !strstr(wrong, expected)) {
        fail_msg("\"%s\" does not say \"%s\"", wrong ? wrong : "(nothing)", expected);
    }
}

static void check_row(void **state)
{
    const struct row *row = *state;
    int64_t microseconds = -7;
    size_t length = strlen(row->text);
    /* Not NUL-terminated, and of just this length: the sanitizer sees a look past the end. */
    char *text = malloc(length ? length : 1);
    memcpy(text, row->text, length);

    assert_true(timestamp_set_zone(row->zone ? row->zone : "UTC"));
    const char *wrong = timestamp_parse(text, length, &microseconds);
    free(text);
    check(wrong, microseconds, row->expected);
}

static void check_unix_row(void **state)
{
    const struct unix_row *row = *state;
    int64_t microseconds = -7;
    const char *wrong = timestamp_from_unix(row->number, &microseconds);
    check(wrong, microseconds, row->expected);
}

/* A NUL is a character like any other: nothing may be read as if the text ended there. */
static void test_nul_inside(void **state)
{
    (void)state;
    int64_t microseconds;
    static const char *const texts[] = {"2024-02-15\0", "2024-02-15\0T15:46", "2024\0-02-15T15:46:46"};
    static const size_t lengths[] = {11, 17, 20};
    for (size_t i = 0; i < 3; i++)
        assert_non_null(timestamp_parse(texts[i], lengths[i], &microseconds));
}

/* Every day of the years 1 to 9999 against the calendar of the C library. */
static void test_every_day(void **state)
{
    (void)state;
    assert_true(timestamp_set_zone("UTC"));
    for (int64_t second = -62135596800; second < 253402300800; second += 86400) {
        char text[64];
        int64_t microseconds = 0;
        show(second * 1000000, text);
        if (timestamp_parse(text, 10, &microseconds) || microseconds != second * 1000000)
            fail_msg("%.10s", text);
    }
}

/* Every half hour of the years around many changes of clocks: the instant found shows the text again, or clocks skip
 * it. */
static void test_zone_round_trip(void **state)
{
    (void)state;
    static const char *const zones[] = {"Europe/Budapest", "America/St_Johns", "Australia/Lord_Howe",
                                        "Africa/Casablanca"};
    for (size_t z = 0; z < 4; z++) {
        assert_true(timestamp_set_zone(zones[z]));
        int64_t last = INT64_MIN;
        for (int64_t local = 1640995200; local < 1735689600; local += 1800) {
            char text[64], again[64];
            int64_t found;
            struct tm tm;
            show(local * 1000000, text);
            assert_null(timestamp_parse(text, 19, &found));
            time_t t = (time_t)(found / 1000000);
            localtime_r(&t, &tm);
            strftime(again, sizeof(again), "%Y-%m-%dT%H:%M:%S", &tm);
            if (strncmp(text, again, 19) == 0 && found <= last)
                fail_msg("%s %.19s does not come after the time before it", zones[z], text);
            /* A skipped time is moved by the width of the gap, an hour or half an hour. */
            int64_t moved = found / 1000000 + tm.tm_gmtoff - local;
            if (moved != 0 && moved != 3600 && moved != 1800)
                fail_msg("%s %.19s became %s", zones[z], text, again);
            last = strncmp(text, again, 19) == 0 ? found : last;
        }
    }
}

static void test_zone_names(void **state)
{
    (void)state;
    static const char *const good[] = {"UTC", "Europe/Budapest", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "GMT"};
    static const char *const bad[] = {"",
                                      "Europe",
                                      "Europe/",
                                      "Europe/Nowhere",
                                      "Mars",
                                      "europe budapest",
                                      "zone.tab",
                                      "tzdata.zi",
                                      "/usr/share/zoneinfo/Europe/Budapest",
                                      "/Europe/Budapest",
                                      "../zoneinfo/Europe/Budapest",
                                      "Europe/../Europe/Budapest",
                                      ":Europe/Budapest",
                                      "CET-1CEST,M3.5.0,M10.5.0/3",
                                      "UTC+1",
                                      "+01:00",
                                      " UTC"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!timestamp_set_zone(good[i]))
            fail_msg("%s is refused", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (timestamp_set_zone(bad[i]))
            fail_msg("%s is taken", bad[i]);
    char name[8000];
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_false(timestamp_set_zone(name));
}

/* A refused name leaves the zone that was. */
static void test_refused_zone(void **state)
{
    (void)state;
    int64_t microseconds;
    assert_true(timestamp_set_zone("Europe/Budapest"));
    assert_false(timestamp_set_zone("Europe/Nowhere"));
    assert_null(timestamp_parse("1970-01-01T01:00:00", 19, &microseconds));
    assert_int_equal(microseconds, 0);
}

/* UTC needs no tz database; another zone is looked for where TZDIR says. */
static void test_tz_directory(void **state)
{
    (void)state;
    setenv("TZDIR", "/nonexistent", 1);
    bool utc = timestamp_set_zone("UTC");
    bool other = timestamp_set_zone("Europe/Budapest");
    unsetenv("TZDIR");
    assert_true(utc);
    assert_false(other);
}

/* Until a zone is set it is UTC, whatever TZ says. Runs first. */
static void test_default_zone(void **state)
{
    (void)state;
    int64_t microseconds;
    setenv("TZ", "America/New_York", 1);
    tzset();
    assert_null(timestamp_parse("1970-01-01", 10, &microseconds));
    assert_int_equal(microseconds, 0);
}

int main(void)
{
    enum { ROWS = sizeof(rows) / sizeof(rows[0]), UNIX_ROWS = sizeof(unix_rows) / sizeof(unix_rows[0]) };
    static char names[ROWS + UNIX_ROWS][96];
    static struct CMUnitTest tests[ROWS + UNIX_ROWS];
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_default_zone),    cmocka_unit_test(test_nul_inside), cmocka_unit_test(test_every_day),
        cmocka_unit_test(test_zone_round_trip), cmocka_unit_test(test_zone_names), cmocka_unit_test(test_refused_zone),
        cmocka_unit_test(test_tz_directory),
    };
    size_t count = 0;

    for (size_t i = 0; i < ROWS; i++, count++) {
        snprintf(names[count], sizeof(names[count]), "%s%s\"%s\"", rows[i].zone ? rows[i].zone : "",
                 rows[i].zone ? " " : "", rows[i].text);
        tests[count] = (struct CMUnitTest){names[count], check_row, NULL, NULL, &rows[i]};
    }
    for (size_t i = 0; i < UNIX_ROWS; i++, count++) {
        snprintf(names[count], sizeof(names[count]), "unix %" PRId64, unix_rows[i].number);
        tests[count] = (struct CMUnitTest){names[count], check_unix_row, NULL, NULL, &unix_rows[i]};
    }
    int failed = cmocka_run_group_tests_name("timestamp", others, NULL, NULL);
    return failed + _cmocka_run_group_tests("timestamp", tests, count, NULL, NULL);
}
