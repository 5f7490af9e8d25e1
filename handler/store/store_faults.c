/* Under store.c: suspects, their tries, and the proof. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "store/store_nodes.h"

#include <stdio.h>
#include <string.h>

#define JOURNAL     "ticket_events" /* so begin the names of its partitions */
#define TRIES       3               /* time-outs of one event, alone, until it is set aside; a crash counts twice */
#define CRASH_TRIES 2

/* -- what failed --------------------------------------------------------------------------------------------------- */

enum sqlstate_class faults_classify(const struct attempt *attempt)
{
    if (attempt->broken)
        return SQLSTATE_OUTAGE;
    const char *state = PQresultErrorField(attempt->error, PG_DIAG_SQLSTATE);
    const char *table = PQresultErrorField(attempt->error, PG_DIAG_TABLE_NAME);
    if (state && table && strcmp(state, "23505") == 0 && strncmp(table, JOURNAL, strlen(JOURNAL)) == 0)
        return SQLSTATE_HELD; /* the journal has one of them: another session was faster */

    /* An outage that a session survives may be that of one event: of a remote database that a trigger asks, of a block
     * that cannot be read. The proof shows it. That the statement is not prepared says the session itself, not a
     * function; and a disk that is full has room for one event and not for another, which is not at fault for it. */
    const char *severity = PQresultErrorField(attempt->error, PG_DIAG_SEVERITY_NONLOCALIZED);
    enum sqlstate_class class = sqlstate_classify(state);
    if (class != SQLSTATE_OUTAGE || !severity || strcmp(severity, "ERROR") != 0)
        return class;
    if (strcmp(state, "26000") == 0 && !PQresultErrorField(attempt->error, PG_DIAG_CONTEXT))
        return SQLSTATE_OUTAGE;
    return strcmp(state, "53100") == 0 ? SQLSTATE_HELD : SQLSTATE_FAULT;
}

/* What an error names, never what the event holds. */
static void note_error(struct job *job, const PGresult *error)
{
    const char *state = PQresultErrorField(error, PG_DIAG_SQLSTATE);
    const char *column = PQresultErrorField(error, PG_DIAG_COLUMN_NAME);
    const char *constraint = PQresultErrorField(error, PG_DIAG_CONSTRAINT_NAME);

    job->field = column ? event_field_by_column(column) : FIELD_COUNT;
    snprintf(job->state, sizeof(job->state), "%s", state ? state : "");
    snprintf(job->detail, sizeof(job->detail), "PostgreSQL refuses it with SQLSTATE %.5s%s%.63s%s%.63s", job->state,
             column ? ", column " : "", column ? column : "", constraint ? ", constraint " : "",
             constraint ? constraint : "");
}

static void say_failed(const struct store *store, struct job *job, bool crashed)
{
    job->field = FIELD_COUNT;
    snprintf(job->state, sizeof(job->state), "%s", crashed ? "" : "57014");
    if (crashed)
        snprintf(job->detail, sizeof(job->detail), "PostgreSQL's server process ended when it worked on it, twice");
    else
        snprintf(job->detail, sizeof(job->detail), "PostgreSQL did not finish it within %d ms",
                 store->conf->db_timeout_ms);
}

/* -- the proof ----------------------------------------------------------------------------------------------------- */

void faults_refuse(struct job *job)
{
    struct event *event = job->event;
    struct text pointer = {0};

    text_append(&pointer, job->field < FIELD_COUNT ? "/ticket/" : "");
    text_append(&pointer, job->field < FIELD_COUNT ? event_fields[job->field].name : "");
    event_refuse(event, OUTCOME_UNPROCESSABLE, pointer.failed || !pointer.bytes ? "" : pointer.bytes, job->detail);
    event->refusal = OUTCOME_UNPROCESSABLE;
    log_line(LOG_WARNING, "event refused by the database", LOG_TEXT("detail", job->detail));
    text_free(&pointer);
}

void faults_prove(struct store *store, struct work *work, const struct job *taken)
{
    for (size_t i = 0; i < work->count && work->suspect > 0; i++) {
        struct job *job = work->waiting[i];
        if (!job->suspect || (store->distributed && !pipeline_same_project(job, taken)))
            continue;
        job->suspect = false;
        work->suspect--;
        bool outage = *job->state && sqlstate_classify(job->state) == SQLSTATE_OUTAGE; /* not a crash */
        if ((outage || sqlstate_may_heal(job->state)) && !job->confirmed) {            /* it is tried once more */
            job->confirmed = true;
            continue;
        }
        tries_forget(&store->tries, job->event);
        job->slow = false;
        faults_refuse(job);
    }
}

void faults_probe(struct store *store, struct work *work)
{
    const struct job *job = NULL;
    char state[6] = "";

    for (size_t i = 0; !job && i < work->count; i++)
        if (work->waiting[i]->suspect)
            job = work->waiting[i];
    if (!job)
        return;
    int64_t project = event_project(job->event), began = clock_monotonic_ms();
    bool taken = session_probe(store, project, state);
    work->probed = !taken && !store->distributed;
    if (taken)
        faults_prove(store, work, job);
    else if (store->distributed)
        nodes_refuse(store, work, project, state, clock_monotonic_ms() - began);
    else if (!store->connection || strcmp(state, job->state) == 0)
        connection_failed(store, "it takes no event at all", state); /* whatever it says, it says it of all */
}

/* -- an event alone ------------------------------------------------------------------------------------------------ */

static void suspect(struct work *work, struct job *job)
{
    job->suspect = true;
    work->suspect++;
}

void faults_recall(struct store *store, struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        struct job *job = work->waiting[i];
        const struct tried *tried =
            job->event->refusal == OUTCOME_NONE ? tries_find(&store->tries, job->event, false) : NULL;
        unsigned tries = tried && tried->tries > job->event->tries ? tried->tries : job->event->tries;
        if (job->event->refusal != OUTCOME_NONE || (tries == 0 && !(tried && tried->slow)))
            continue;
        job->slow = true;
        say_failed(store, job, tried && tried->crashed);
        if (tries >= TRIES)
            suspect(work, job);
    }
}

static void hold(struct work *work, struct job *job)
{
    job->held = true;
    work->stuck++;
}

/* An event alone did not end in the time that a batch has, or in all the time there is. */
static void take_timeout(struct store *store, struct work *work, struct job *job)
{
    bool tried = work->long_try;

    work->long_try = false;
    work->stuck++;
    say_failed(store, job, false);
    if (!tried) {
        struct tried *entry = tries_find(&store->tries, job->event, true);
        job->slow = entry != NULL;
        job->held = !job->slow;
        if (entry)
            entry->slow = true;
    } else if (tries_count(&store->tries, job->event, 1) >= TRIES) {
        suspect(work, job);
    } else {
        job->slow = false;
        job->held = true;
    }
}

/* An event alone was refused. If others were taken since it was so before, that is the proof: the made-up one may lack
 * what a constraint of the user's wants. */
static void take_refusal(struct store *store, struct work *work, struct job *job)
{
    struct tried *tried = tries_find(&store->tries, job->event, true);
    bool proven = tried && tried->refused && tried->refused <= store->commits && !store->distributed;

    if (tried)
        tried->refused = store->commits + 1;
    job->slow = false; /* this time it ended: what may heal is tried once more at once */
    suspect(work, job);
    if (proven)
        faults_prove(store, work, job);
}

/* An event alone, and the connection is gone without a word. */
static void take_crash(struct store *store, struct work *work, struct job *job)
{
    say_failed(store, job, true);
    if (tries_count(&store->tries, job->event, CRASH_TRIES) >= TRIES)
        suspect(work, job);
}

void faults_note(struct store *store, struct work *work, const struct attempt *attempt, enum sqlstate_class class)
{
    struct job *job = work->chosen[0];
    bool refused = job->event->refusal != OUTCOME_NONE;

    if (class == SQLSTATE_OUTAGE) {
        if (attempt->crashed && !refused)
            take_crash(store, work, job);
    } else if (class == SQLSTATE_TIMEOUT && !refused) {
        take_timeout(store, work, job);
    } else if (class == SQLSTATE_HELD && !refused) {
        hold(work, job);
        if (sqlstate_classify(PQresultErrorField(attempt->error, PG_DIAG_SQLSTATE)) == SQLSTATE_OUTAGE) {
            note_error(job, attempt->error);
            work->stuck++; /* it is asked at once whether others are taken */
        }
    } else {
        note_error(job, attempt->error);
        if (refused)
            hold(work, job); /* it cannot even be set aside now */
        else
            take_refusal(store, work, job);
    }
}
