/* The input is a time, and its last byte chooses the zone of times that carry no offset. A time that is read lies in
 * the years that there are, and reads the same again as clock_text writes it. */
#include "fuzz.h"

#include <string.h>

#include "base/clock.h"
#include "event/timestamp.h"

#define FIRST_US  INT64_C(-62135596800000000) /* 0001-01-01T00:00:00Z */
#define LAST_US   INT64_C(253402300799999999) /* the last microsecond of 9999 */
#define DAY_US    INT64_C(86400000000)
#define MOST_US   (DAY_US + DAY_US / 12)   /* between what two zones show: Samoa left a day out */
#define MILLIS_US INT64_C(100000000000000) /* a Unix time this far from 1970 is one in milliseconds */

static const char *const zones[] = {"UTC", "Europe/Budapest", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"};

/* To the millisecond, downwards. */
static int64_t milliseconds(int64_t microseconds)
{
    return microseconds / 1000 - (microseconds % 1000 < 0);
}

static bool has_offset(const uint8_t *bytes, size_t length)
{
    const uint8_t *clock = memchr(bytes, ':', length);
    if (!clock)
        return false;
    for (; clock < bytes + length; clock++)
        if (strchr("Zz+-", *clock))
            return true;
    return false;
}

static void check_zone(const uint8_t *bytes, size_t length, int64_t time)
{
    int64_t in_utc;

    require(timestamp_set_zone("UTC"));
    require(!timestamp_parse((const char *)bytes, length, &in_utc));
    if (has_offset(bytes, length))
        require(in_utc == time);
    require(in_utc - time <= MOST_US && time - in_utc <= MOST_US);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    uint8_t zone = take_last(bytes, &length);
    int64_t time, again, from_unix;
    char text[CLOCK_TEXT];

    require(timestamp_set_zone(zones[zone % (sizeof(zones) / sizeof(zones[0]))]));
    const char *wrong = timestamp_parse((const char *)bytes, length, &time);
    if (wrong) {
        require(*wrong);
        return 0;
    }
    /* The year is that of the text: an offset may take the instant over its edge. */
    require(time >= FIRST_US - DAY_US && time <= LAST_US + DAY_US);
    check_zone(bytes, length, time);
    if (time < FIRST_US || time > LAST_US)
        return 0;
    clock_text(time, text);
    require(!timestamp_parse(text, strlen(text), &again));
    require(again == milliseconds(time) * 1000);
    if (again >= MILLIS_US || again <= -MILLIS_US)
        require(!timestamp_from_unix(again / 1000, &from_unix) && from_unix == again);
    return 0;
}
