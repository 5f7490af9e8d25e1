/* What an error of PostgreSQL means for the events at hand (PostgreSQL manual, appendix A). */
#ifndef TICKETD_SQLSTATE_H
#define TICKETD_SQLSTATE_H

enum sqlstate_class {
    SQLSTATE_RECONNECT,    /* the server or the connection: keep the events, connect again */
    SQLSTATE_TRY_AGAIN,    /* bad luck: the same again may succeed */
    SQLSTATE_EVENT,        /* this event alone is bad */
    SQLSTATE_INSTALLATION, /* schema, rights or login are wrong: hold every event, say it loudly */
};

/* `state`: five characters, or NULL or "" where the server sent none. */
enum sqlstate_class sqlstate_classify(const char *state);

#endif
