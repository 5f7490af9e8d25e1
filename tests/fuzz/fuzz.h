/* What the fuzz targets share. Each is one LLVMFuzzerTestOneInput (libFuzzer): it is called with bytes of any kind, and
 * what it requires must hold for all of them. */
#ifndef TICKETD_FUZZ_H
#define TICKETD_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Runs once before the first input, in the targets that have it. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Ends the process where the condition does not hold: libFuzzer keeps the input then. */
#define require(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: does not hold: %s\n", __FILE__, __LINE__, __func__, #condition);               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Takes the last byte off the input, for a choice: the beginning stays what it looks like. 0 where there is none. */
static inline uint8_t take_last(const uint8_t *bytes, size_t *length)
{
    return *length > 0 ? bytes[--*length] : 0;
}

/* A file in memory that holds these bytes, at its beginning. The caller closes it. */
static inline int file_of(const void *bytes, size_t length)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0);
    require(pwrite(fd, bytes, length, 0) == (ssize_t)length);
    return fd;
}

#endif
