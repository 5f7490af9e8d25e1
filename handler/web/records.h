/* A look at the records of one FastCGI request before libfcgi gets them (FastCGI specification 1.0, sections 3 and 8).
 * What passes is one request in the responder's role, whole to its last byte: libfcgi waits for no peer and meets
 * nothing that would crash it (management records, lengths that lie), or end a parameter early (a NUL). */
#ifndef TICKETD_RECORDS_H
#define TICKETD_RECORDS_H

#include "base/outcome.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum records_state {
    RECORDS_PART, /* as far as it goes it is good */
    RECORDS_WHOLE,
    RECORDS_BAD
};

/* Where the look is. Start with {0}. */
struct records {
    uint8_t header[8];
    size_t header_length;     /* bytes of it that are there */
    size_t content, padding;  /* bytes of the record still to come */
    unsigned begin_length;    /* bytes of FCGI_BeginRequestBody that came */
    unsigned id;              /* of the request; 0: it did not begin */
    uint8_t stage;            /* the stream that comes now */
    size_t parameter_bytes;   /* of all parameters */
    uint32_t lengths[2];      /* of the name and the value that come */
    unsigned length_bytes[2]; /* how many of each length came */
    size_t pair_left;         /* bytes of them still to come */
    size_t head_length;       /* bytes of the connection up to the end of the parameters, as far as they came */
    size_t behind;            /* bytes of the last look that follow the request */
    struct text *body;        /* gets what the body holds; NULL: nobody wants it. Borrowed */
};

/* Looks at the next bytes of the connection. After RECORDS_WHOLE and RECORDS_BAD there is nothing more to look at;
 * bytes behind the request are only counted. */
enum records_state records_look(struct records *records, const uint8_t *bytes, size_t length) MUST_USE;

/* Whether the parameters are there to their end. */
bool records_have_head(const struct records *records);

#endif
