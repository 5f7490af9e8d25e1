/* Times of the body, read for decode.c; main.c sets the zone of those that carry no offset. */
#include "event/timestamp.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_US INT64_C(1000000)
#define DAY_S     INT64_C(86400)
#define FIRST_US  (INT64_C(-62135596800) * SECOND_US)     /* 0001-01-01T00:00:00Z */
#define LAST_US   (INT64_C(253402300800) * SECOND_US - 1) /* the last microsecond of 9999 */
#define MILLIS    INT64_C(100000000000)                   /* a Unix time from here up counts milliseconds */

#ifndef TZDIR
#define TZDIR "/usr/share/zoneinfo"
#endif

/* Set once, before threads start, like the TZ that it belongs to. */
static bool zone_is_utc = true;

struct cursor {
    const char *at, *end;
};

struct moment {
    int year, month, day;
    int hour, minute, second, microsecond;
    bool has_offset;
    int offset_sign, offset_hours, offset_minutes;
};

/* Steps over one character if it is one of `any`. */
static bool take(struct cursor *c, const char *any)
{
    if (c->at == c->end || !memchr(any, *c->at, strlen(any)))
        return false;
    c->at++;
    return true;
}

static bool take_digit(struct cursor *c, int *digit)
{
    if (c->at == c->end || *c->at < '0' || *c->at > '9')
        return false;
    *digit = *c->at++ - '0';
    return true;
}

/* Exactly `digits` digits. */
static bool take_number(struct cursor *c, int digits, int *number)
{
    int digit;
    *number = 0;
    for (int i = 0; i < digits; i++) {
        if (!take_digit(c, &digit))
            return false;
        *number = *number * 10 + digit;
    }
    return true;
}

static bool take_date(struct cursor *c, struct moment *m)
{
    return take_number(c, 4, &m->year) && take(c, "-") && take_number(c, 2, &m->month) && take(c, "-") &&
           take_number(c, 2, &m->day);
}

/* Digits past the sixth add nothing: the scale has come down to 0. */
static bool take_fraction(struct cursor *c, struct moment *m)
{
    int digit, scale = 100000;
    const char *start = c->at;
    for (; take_digit(c, &digit); scale /= 10)
        m->microsecond += digit * scale;
    return c->at > start;
}

static bool take_clock(struct cursor *c, struct moment *m)
{
    if (!take_number(c, 2, &m->hour) || !take(c, ":") || !take_number(c, 2, &m->minute))
        return false;
    if (!take(c, ":"))
        return true;
    return take_number(c, 2, &m->second) && (!take(c, ".,") || take_fraction(c, m));
}

static bool take_offset(struct cursor *c, struct moment *m)
{
    m->has_offset = c->at < c->end;
    if (!m->has_offset || take(c, "Zz"))
        return true;
    m->offset_sign = take(c, "-") ? -1 : 1;
    if (m->offset_sign > 0 && !take(c, "+"))
        return false;
    if (!take_number(c, 2, &m->offset_hours))
        return false;
    if (c->at == c->end)
        return true;
    take(c, ":");
    return take_number(c, 2, &m->offset_minutes);
}

bool timestamp_is_none(const char *text, size_t length)
{
    static const char *const dates[] = {"0000-00-00", "-0001-11-30", "-001-11-30"};

    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
        size_t date = strlen(dates[i]);
        struct cursor c = {text + date, text + length};
        struct moment ignored = {0};
        if (length >= date && memcmp(text, dates[i], date) == 0)
            return c.at == c.end ||
                   (take(&c, "Tt ") && take_clock(&c, &ignored) && take_offset(&c, &ignored) && c.at == c.end);
    }
    return false;
}

static bool take_moment(struct cursor *c, struct moment *m)
{
    if (!take_date(c, m))
        return false;
    if (c->at == c->end)
        return true;
    return take(c, "Tt ") && take_clock(c, m) && take_offset(c, m) && c->at == c->end;
}

static int days_in_month(int year, int month)
{
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2)
        return leap ? 29 : 28;
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

static const char *check_ranges(const struct moment *m)
{
    const struct {
        int number, minimum, maximum;
        const char *wrong;
    } ranges[] = {
        {m->year, 1, 9999, "year must be 1 to 9999"},
        {m->month, 1, 12, "month must be 1 to 12"},
        {m->day, 1, days_in_month(m->year, m->month), "that month has no such day"},
        {m->hour, 0, 23, "hour must be 0 to 23"},
        {m->minute, 0, 59, "minute must be 0 to 59"},
        {m->second, 0, 60, "second must be 0 to 60"},
        {m->offset_hours, 0, 15, "offset must be at most 15:59"},
        {m->offset_minutes, 0, 59, "minutes of the offset must be 0 to 59"},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (ranges[i].number < ranges[i].minimum || ranges[i].number > ranges[i].maximum)
            return ranges[i].wrong;
    return NULL;
}

/* Days from 1970-01-01. The year is taken to begin in March: then a leap day is its last. */
static int64_t days_since_1970(const struct moment *m)
{
    int64_t year = m->month > 2 ? m->year : m->year - 1;
    int64_t month = (m->month + 9) % 12;
    return year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + m->day - 1 - 719468;
}

static int64_t zone_offset(int64_t instant)
{
    time_t t = (time_t)instant;
    struct tm local;
    return localtime_r(&t, &local) ? local.tm_gmtoff : 0;
}

/* The instant at which the zone's clocks show `local` seconds. Not by mktime: for an hour that comes twice its answer
 * depends on the calls before. The offsets a day before and a day after are the only candidates. Where both fit, the
 * first occurrence is meant, which is the offset before; where none fits, clocks skip that time, and the offset before
 * counts too (RFC 5545 section 3.3.5). */
static int64_t instant_of_local(int64_t local)
{
    if (zone_is_utc)
        return local;
    int64_t before = zone_offset(local - DAY_S);
    int64_t after = zone_offset(local + DAY_S);
    bool only_after_fits = zone_offset(local - before) != before && zone_offset(local - after) == after;
    return local - (only_after_fits ? after : before);
}

const char *timestamp_parse(const char *text, size_t length, int64_t *microseconds)
{
    struct cursor cursor = {text, text + length};
    struct moment m = {0};

    if (!take_moment(&cursor, &m))
        return "is not an ISO 8601 date-time";
    const char *wrong = check_ranges(&m);
    if (wrong)
        return wrong;
    int64_t seconds = days_since_1970(&m) * DAY_S + m.hour * 3600 + m.minute * 60 + m.second;
    if (m.has_offset)
        seconds -= m.offset_sign * (m.offset_hours * 3600 + m.offset_minutes * 60);
    else
        seconds = instant_of_local(seconds);
    *microseconds = seconds * SECOND_US + m.microsecond;
    return NULL;
}

const char *timestamp_from_unix(int64_t number, int64_t *microseconds)
{
    int64_t unit = number >= MILLIS || number <= -MILLIS ? 1000 : SECOND_US;
    if (number < FIRST_US / unit || number > LAST_US / unit)
        return "year must be 1 to 9999";
    *microseconds = number * unit;
    return NULL;
}

/* glibc takes UTC for a name that it does not know, and a path out of the tz database for a zone. */
static bool zone_exists(const char *name)
{
    const char *directory = getenv("TZDIR");
    char path[PATH_MAX], magic[4];

    if (*name == '\0' || *name == '/' || strstr(name, ".."))
        return false;
    int length = snprintf(path, sizeof(path), "%s/%s", directory && *directory ? directory : TZDIR, name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return false;
    FILE *file = fopen(path, "re");
    bool exists = file && fread(magic, sizeof(magic), 1, file) == 1 && memcmp(magic, "TZif", sizeof(magic)) == 0;
    if (file)
        fclose(file);
    return exists;
}

bool timestamp_set_zone(const char *name)
{
    bool utc = strcmp(name, "UTC") == 0;
    if ((!utc && !zone_exists(name)) || setenv("TZ", name, 1) != 0)
        return false;
    tzset();
    zone_is_utc = utc;
    return true;
}
