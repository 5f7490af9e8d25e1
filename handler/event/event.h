/* JSON body → struct event: every decoding rule of the contract lives behind event_decode.
 * No module state: any thread may call, each on its own event. */
#ifndef TICKETD_EVENT_H
#define TICKETD_EVENT_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field {
#define FIELD(name, column, type, meaning) FIELD_##column,
#define ALIAS(name, column)
#include "event/fields.def"
#undef FIELD
#undef ALIAS
    FIELD_COUNT
};

enum field_type { TYPE_KEY, TYPE_INTEGER, TYPE_TEXT, TYPE_TIME };

struct field_info {
    const char *name;   /* attribute in the event */
    const char *column; /* column of vcc.tickets */
    enum field_type type;
    const char *meaning;
};

/* Indexed by enum field. */
extern const struct field_info event_fields[FIELD_COUNT];

enum presence {
    ABSENT,  /* leave the column alone */
    CLEARED, /* an explicit null (or an empty string for an integer or time): set the column to NULL */
    PRESENT
};

struct value {
    enum presence presence;
    int64_t number;   /* KEY, INTEGER: the integer; TIME: microseconds since 1970-01-01T00:00:00Z */
    const char *text; /* TEXT: NUL-terminated UTF-8, inside the event */
    size_t length;    /* TEXT: bytes, without the NUL */
};

/* One thing wrong with a body. */
struct fault {
    char *pointer; /* JSON pointer (RFC 6901) to the place; "" is the whole body */
    char *detail;
};

#define EVENT_FAULTS 100 /* that are kept of a body, and one more that says so */

#define EVENT_ECHO      256 /* bytes of a pointer or detail: a body decides how long its names are */
#define EVENT_SENT_WITH 64  /* characters of what a body was sent with */

/* A body with everything known about it. The event owns all that it points to. */
struct event {
    uint8_t id[16];      /* UUIDv7 (RFC 9562), made when the request had arrived */
    int64_t received_at; /* microseconds since 1970-01-01T00:00:00Z */

    char *body;       /* the received JSON text, byte for byte (a BOM is skipped), NUL-terminated */
    size_t length;    /* bytes of body, without the NUL */
    char *allocation; /* what free(3) gets for body: it may start before it */
    char *sent;       /* the body as it came where it was compressed; else NULL */
    size_t sent_length;

    /* What the body was sent with, "" where it was not: kept beside it, to read it again. */
    char iv[EVENT_SENT_WITH + 1];     /* of the URL, as it stood there */
    char coding[EVENT_SENT_WITH + 1]; /* Content-Encoding */

    enum action action;
    struct value values[FIELD_COUNT];
    char *text;         /* one block: the texts of values and the names of extra */
    const char **extra; /* names of the attributes that no field has, each once; NULL where there are none */
    size_t extra_count;

    enum outcome outcome; /* the verdict: OUTCOME_NONE until there is one */

    enum outcome refusal; /* the answer to a body that is set aside instead of applied; OUTCOME_NONE: apply it */
    struct fault *faults; /* why it was refused */
    size_t fault_count;
    char *reason;      /* the same in one text; see event_reason */
    bool was_rejected; /* it comes from vcc.rejected_events: applying it removes it there */
    bool waited;  /* it was spooled, set aside, imported or tried before: it may be applied already, or later ones */
    bool held;    /* the store's word where it has no verdict: its ticket cannot be written now, others can */
    bool away;    /* … and its node of a distributed database is away: it is not worth waiting for */
    char why[96]; /* why it is held; "": it was not tried, for want of time */

    /* The spool's own. */
    unsigned tries; /* how often it was tried and failed */

    /* The import's own. */
    uint64_t number; /* of its line, or value, in the file */
};

/* Makes an empty event that owns `body` (from malloc, `length` bytes and a NUL behind them; freed by
 * event_free, also when decoding fails). */
void event_init(struct event *event, char *body, size_t length);

/* Keeps `text` in event->iv or event->coding: printable ASCII, cut to the room that there is. Anything else is nothing
 * that could be read, and is left out. */
void event_keep(char kept[EVENT_SENT_WITH + 1], const char *text);

/* Decodes event->body and sets action, values and extra. False: out of memory.
 *
 * A body that is no event is decoded too: event->refusal then says which answer it gets, OUTCOME_BAD_REQUEST for what
 * is not UTF-8 or not JSON (RFC 8259), OUTCOME_UNPROCESSABLE for JSON that is no event, and faults lists everything
 * that was found wrong. Of its values only the key may be set. */
bool event_decode(struct event *event) MUST_USE;

/* Reads the JSON text of a time, with the contract's rules for times. *wrong is NULL, and *microseconds is set (since
 * 1970); or it is what is wrong, a static string for people. False: out of memory. */
bool event_read_time(const char *json, size_t length, int64_t *microseconds, const char **wrong) MUST_USE;

/* Refuses the event and adds a fault; both texts are copied. Out of memory drops the fault, never the refusal. */
void event_refuse(struct event *event, enum outcome refusal, const char *pointer, const char *detail);

/* Why the event was refused, for people: pointer and detail of each fault. Inside the event. */
const char *event_reason(struct event *event);

/* The body as it was received: a BOM included, and of a refused event compressed, if it was. Inside the event. */
const char *event_received(const struct event *event, size_t *length);

/* Frees all that the event owns and leaves it empty; an empty event is fine. */
void event_free(struct event *event);

struct lanes {
    unsigned count;
    bool by_project; /* all tickets of a project go together: where a call to the database is of one project */
};

/* Which of the lanes the ticket belongs to, from 0. Neighbouring tickets go to different ones. */
unsigned event_lane(int64_t project, int64_t ticket, struct lanes lanes);

/* The field stored in `column`; FIELD_COUNT if there is none. */
enum field event_field_by_column(const char *column) MUST_USE;

/* The project that the event, or a refused body, speaks of; 0: it does not say. */
int64_t event_project(const struct event *event);

#endif
