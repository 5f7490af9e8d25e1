/* Time and the identifiers made of it. */
#ifndef TICKETD_CLOCK_H
#define TICKETD_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Milliseconds and microseconds of the monotonic clock: for deadlines and durations. */
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);

/* Makes a condition whose pthread_cond_timedwait(3) takes the monotonic time of clock_monotonic_in(milliseconds). */
void clock_condition_init(pthread_cond_t *condition);
struct timespec clock_monotonic_in(int milliseconds);

/* Sleeps so many milliseconds, below 1000, or until a signal is handled. */
void clock_sleep_ms(int milliseconds);

/* flock(2) that waits no longer than that: who holds it may be stopped. False: errno. */
bool clock_lock_within(int fd, int operation, int wait_ms) __attribute__((warn_unused_result));

/* Microseconds since 1970-01-01T00:00:00Z. */
int64_t clock_realtime_us(void);

#define CLOCK_TEXT 32

/* Writes a time in microseconds as ISO 8601 in UTC, to the millisecond: 2024-02-15T15:46:46.000Z. */
void clock_text(int64_t microseconds, char text[CLOCK_TEXT]);

/* Makes a UUIDv7 (RFC 9562 section 5.7) from the time in microseconds: 48 bits of milliseconds, 12 bits of the fraction
 * of the millisecond (section 6.2, method 3), 62 random bits. */
void clock_uuid(uint8_t uuid[16], int64_t microseconds);

/* The same with bits that are given (two of the 64 are not used): the same input makes the same UUID again. */
void clock_uuid_from(uint8_t uuid[16], int64_t microseconds, const uint8_t random[8]);

/* Reads the canonical text of a UUID. False: it is none. */
bool clock_uuid_parse(const char *text, uint8_t uuid[16]) __attribute__((warn_unused_result));

/* Writes the canonical text of a UUID: 36 characters and a NUL. */
void clock_uuid_text(const uint8_t uuid[16], char text[37]);

#endif
