/* Clocks and UUIDv7. */
#include "clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t clock_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_realtime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void clock_text(int64_t microseconds, char text[CLOCK_TEXT])
{
    time_t seconds = (time_t)(microseconds / 1000000 - (microseconds % 1000000 < 0));
    int milliseconds = (int)((microseconds - (int64_t)seconds * 1000000) / 1000);
    struct tm utc = {0};

    gmtime_r(&seconds, &utc);
    size_t length = strftime(text, CLOCK_TEXT, "%04Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, CLOCK_TEXT - length, ".%03dZ", milliseconds);
}

void clock_uuid(uint8_t uuid[16], int64_t microseconds)
{
    uint8_t random[8];

    /* Once the kernel's pool is ready, as it is after boot, requests this small are not interrupted (getrandom(2)). */
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        abort();
    clock_uuid_from(uuid, microseconds, random);
}

void clock_uuid_from(uint8_t uuid[16], int64_t microseconds, const uint8_t random[8])
{
    uint64_t ms = (uint64_t)(microseconds / 1000);
    unsigned fraction = (unsigned)(microseconds % 1000) * 4096 / 1000;

    for (int i = 0; i < 6; i++)
        uuid[i] = (uint8_t)(ms >> (40 - 8 * i));
    uuid[6] = (uint8_t)(0x70 | fraction >> 8);
    uuid[7] = (uint8_t)fraction;
    memcpy(uuid + 8, random, 8);
    uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
}

void clock_uuid_text(const uint8_t u[16], char text[37])
{
    snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
             u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}
