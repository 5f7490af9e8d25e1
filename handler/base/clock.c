/* Clocks and UUIDv7. */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>

int64_t clock_monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_us() / 1000;
}

void clock_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct timespec clock_monotonic_in(int milliseconds)
{
    int64_t until = clock_monotonic_us() + milliseconds * (int64_t)1000;
    return (struct timespec){.tv_sec = until / 1000000, .tv_nsec = until % 1000000 * 1000};
}

void clock_sleep_ms(int milliseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000L}, NULL);
}

bool clock_lock_within(int fd, int operation, int wait_ms)
{
    int64_t until = clock_monotonic_ms() + wait_ms;

    while (flock(fd, operation | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || clock_monotonic_ms() >= until)
            return false;
        clock_sleep_ms(1);
    }
    return true;
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
    /* A supply for 32, by one system call. Once the kernel's pool is ready, as it is after boot, requests of up to 256
     * bytes are not interrupted (getrandom(2)). */
    static _Thread_local uint8_t random[256];
    static _Thread_local size_t left;

    if (left == 0) {
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
            abort();
        left = sizeof(random);
    }
    left -= 8;
    clock_uuid_from(uuid, microseconds, random + left);
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

void clock_uuid_text(const uint8_t uuid[16], char text[37])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *text++ = '-';
        *text++ = digits[uuid[i] >> 4];
        *text++ = digits[uuid[i] & 15];
    }
    *text = '\0';
}

bool clock_uuid_parse(const char *text, uint8_t uuid[16])
{
    static const char pattern[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    size_t digits = 0;

    memset(uuid, 0, 16);
    if (strlen(text) != strlen(pattern))
        return false;
    for (size_t i = 0; pattern[i]; i++) {
        if (pattern[i] == '-' ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
        if (pattern[i] == '-')
            continue;
        int value = text[i] <= '9' ? text[i] - '0' : (text[i] | 0x20) - 'a' + 10;
        uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | value);
        digits++;
    }
    return true;
}
