/* Beside the path: a question from the page → kept answer or database → JSON. */
#include "serve/dashboard.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "event/query.h"
#include "store/store_report.h"
#include "web/answer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_MS    3000 /* how long an answer is given again */
#define KEPT        8    /* answers in memory */
#define WAITING_MAX 64   /* questions that wait for the database */

struct kept {
    struct report_question question;
    int64_t asked_at;    /* monotonic milliseconds; 0: the place is free */
    char *report;        /* the last good one; NULL: none yet */
    const char *problem; /* of the last try; NULL: it went well */
};

struct asked {
    struct report_question question;
    struct waiter *waiter;
    STAILQ_ENTRY(asked) link;
};

STAILQ_HEAD(questions, asked);

struct dashboard {
    struct conf conf; /* with the reports' own connection string */
    struct queue *queue;
    struct shared *shared;
    struct store *store;
    struct kept kept[KEPT]; /* the thread's alone */

    pthread_mutex_t lock;
    pthread_cond_t more;
    struct questions waiting;
    int waiting_count;
    bool awake; /* nothing more will come */
};

struct dashboard *dashboard_open(const struct conf *conf, struct queue *queue, struct shared *shared)
{
    struct dashboard *dashboard = calloc(1, sizeof(*dashboard));

    if (!dashboard)
        return NULL;
    dashboard->conf = store_report_conf(conf);
    dashboard->queue = queue;
    dashboard->shared = shared;
    STAILQ_INIT(&dashboard->waiting);
    pthread_mutex_init(&dashboard->lock, NULL);
    pthread_cond_init(&dashboard->more, NULL);
    dashboard->store = store_open(&dashboard->conf, &shared->stop_at, NULL);
    if (!dashboard->store) {
        dashboard_close(dashboard);
        return NULL;
    }
    return dashboard;
}

void dashboard_close(struct dashboard *dashboard)
{
    if (!dashboard)
        return;
    store_close(dashboard->store);
    for (int i = 0; i < KEPT; i++)
        free(dashboard->kept[i].report);
    pthread_cond_destroy(&dashboard->more);
    pthread_mutex_destroy(&dashboard->lock);
    free(dashboard);
}

/* -- the question -------------------------------------------------------------------------------------------------- */

enum empty { EMPTY_ABSENT, EMPTY_GIVEN };

static bool is_PERIOD(const char *value)
{
    return text_choice("1d|7d|30d|90d", value) >= 0;
}

static bool is_NUMBER(const char *value)
{
    int64_t number;

    return text_integer(value, &number);
}

static bool is_TEXT(const char *value)
{
    size_t length = strlen(value), step;

    for (size_t at = 0; at < length; at += step)
        if (!(step = text_utf8((const unsigned char *)value + at, length - at)))
            return false;
    return true;
}

static const struct {
    const char *name;
    bool (*check)(const char *value);
    enum empty empty;
    const char *expected;
} parameters[] = {
#define PARAMETER(ID, name, check, empty, expected) {name, is_##check, EMPTY_##empty, expected},
#include "store/report.def"
#undef PARAMETER
};

/* NULL: read. Else what is expected, a static string. */
static const char *read_question(const char *query, struct report_question *question)
{
    char *value = malloc(strlen(query) + 1);
    const char *problem = value ? NULL : "out of memory";

    memset(question, 0, sizeof(*question)); /* its padding too */
    strcpy(question->values[REPORT_PERIOD], "30d");
    question->given[REPORT_PERIOD] = true;
    for (size_t i = 0; !problem && i < REPORT_PARAMETERS; i++) {
        size_t length = 0;
        enum query_found found = query_find(query, parameters[i].name, value, &length);
        if (found == QUERY_NONE || (length == 0 && parameters[i].empty == EMPTY_ABSENT && found == QUERY_ONE))
            continue;
        if (found == QUERY_REPEATED || strlen(value) != length || length >= REPORT_VALUE ||
            !parameters[i].check(value)) {
            problem = parameters[i].expected;
            continue;
        }
        memcpy(question->values[i], value, length + 1);
        question->given[i] = true;
    }
    free(value);
    return problem;
}

/* -- the answer ---------------------------------------------------------------------------------------------------- */

static void append_time(struct text *text, const char *name, int64_t microseconds)
{
    char time[CLOCK_TEXT];

    clock_text(microseconds, time);
    text_append_format(text, microseconds ? ",\"%s\":\"%s\"" : ",\"%s\":null", name, time);
}

/* What this process knows, the database answering or not. */
static void append_handler(struct text *text, const struct dashboard *dashboard)
{
    static const char *const takers[] = {
        [NOT_READY] = "nowhere", [READY_BY_DATABASE] = "database", [READY_BY_SPOOL] = "spool"};
    const char *separator = "";
    char away[256];

    text_append(text, "{\"version\":\"" VERSION "\"");
    append_time(text, "now", clock_realtime_us());
    append_time(text, "started_at", metrics_value(METRIC_START));
    text_append_format(text,
                       ",\"takes_events\":\"%s\",\"spool\":{\"events\":%" PRId64 ",\"held_tickets\":%" PRId64
                       ",\"bytes\":%" PRId64 ",\"max_bytes\":%" PRId64,
                       takers[shared_readiness(dashboard->shared)], metrics_value(METRIC_SPOOL_EVENTS),
                       metrics_value(METRIC_SPOOL_HELD), metrics_value(METRIC_SPOOL_BYTES),
                       *dashboard->conf.spool_dir ? (int64_t)dashboard->conf.spool_max_mb * 1048576 : 0);
    append_time(text, "oldest_at", metrics_value(METRIC_SPOOL_OLDEST));
    text_append(text, "},\"nodes_away\":");
    text_append_json(text, nodes_names(&dashboard->shared->nodes, away, sizeof(away)));
    append_time(text, "last_event_at", metrics_value(METRIC_LAST_EVENT));
    text_append(text, ",\"answers\":{");
    for (int status = 200; status < 600; status++) {
        int64_t count = metrics_by_status(METRIC_REQUESTS, status);
        if (count < 0)
            continue;
        text_append_format(text, "%s\"%d\":{\"count\":%" PRId64, separator, status, count);
        append_time(text, "last_at", metrics_by_status(METRIC_LAST_REQUEST, status));
        text_append(text, "}");
        separator = ",";
    }
    text_append(text, "}}");
}

static void append_answer(struct text *answer, const struct dashboard *dashboard, const struct kept *kept)
{
    answer_head(answer, 200, "application/json");
    text_append(answer, "{\"handler\":");
    append_handler(answer, dashboard);
    text_append(answer, ",\"report\":");
    text_append(answer, kept->report ? kept->report : "null");
    text_append(answer, ",\"problem\":");
    if (kept->problem)
        text_append_json(answer, kept->problem);
    else
        text_append(answer, "null");
    text_append(answer, "}\n");
}

/* The place of an answer to the question; else the one that was asked for longest ago, emptied. */
static struct kept *find(struct dashboard *dashboard, const struct report_question *question)
{
    struct kept *oldest = &dashboard->kept[0];

    for (struct kept *kept = dashboard->kept; kept < dashboard->kept + KEPT; kept++) {
        if (kept->asked_at && memcmp(&kept->question, question, sizeof(*question)) == 0)
            return kept;
        if (kept->asked_at < oldest->asked_at)
            oldest = kept;
    }
    free(oldest->report);
    memset(oldest, 0, sizeof(*oldest));
    memcpy(&oldest->question, question, sizeof(*question));
    return oldest;
}

/* Where the database does not answer, the last good report is shown with what is wrong. */
static const struct kept *look(struct dashboard *dashboard, const struct report_question *question)
{
    struct kept *kept = find(dashboard, question);

    if (kept->asked_at && clock_monotonic_ms() - kept->asked_at < FRESH_MS)
        return kept;
    char *report = store_report(dashboard->store, question, &kept->problem);
    if (report) {
        free(kept->report);
        kept->report = report;
        kept->problem = NULL;
    }
    kept->asked_at = clock_monotonic_ms();
    return kept;
}

/* -- the thread ---------------------------------------------------------------------------------------------------- */

/* False: too many wait, or out of memory. */
static bool park(struct dashboard *dashboard, const struct report_question *question, struct waiter *waiter)
{
    struct asked *asked = calloc(1, sizeof(*asked));

    if (!asked)
        return false;
    memcpy(&asked->question, question, sizeof(*question));
    asked->waiter = waiter;
    pthread_mutex_lock(&dashboard->lock);
    bool room = dashboard->waiting_count < WAITING_MAX;
    if (room) {
        STAILQ_INSERT_TAIL(&dashboard->waiting, asked, link);
        dashboard->waiting_count++;
        pthread_cond_signal(&dashboard->more);
    }
    pthread_mutex_unlock(&dashboard->lock);
    if (!room)
        free(asked);
    return room;
}

/* The next question, to be freed; NULL: nothing more will come. */
static struct asked *take_question(struct dashboard *dashboard)
{
    pthread_mutex_lock(&dashboard->lock);
    while (STAILQ_EMPTY(&dashboard->waiting) && !dashboard->awake)
        pthread_cond_wait(&dashboard->more, &dashboard->lock);
    struct asked *asked = STAILQ_FIRST(&dashboard->waiting);
    if (asked) {
        STAILQ_REMOVE_HEAD(&dashboard->waiting, link);
        dashboard->waiting_count--;
    }
    pthread_mutex_unlock(&dashboard->lock);
    return asked;
}

void dashboard_wake(struct dashboard *dashboard)
{
    if (!dashboard)
        return;
    pthread_mutex_lock(&dashboard->lock);
    dashboard->awake = true;
    pthread_cond_signal(&dashboard->more);
    pthread_mutex_unlock(&dashboard->lock);
}

void *dashboard_run(void *argument)
{
    struct dashboard *dashboard = ((struct thread *)argument)->context;
    struct asked *asked;

    while ((asked = take_question(dashboard))) {
        append_answer(&asked->waiter->answer, dashboard, look(dashboard, &asked->question));
        queue_answer(dashboard->queue, asked->waiter);
        free(asked);
    }
    return NULL;
}

bool dashboard_ask(struct dashboard *dashboard, const char *query, struct waiter *waiter, struct text *answer)
{
    struct report_question question;

    if (!dashboard) {
        answer_problem(answer, 404, "There are no reports here: set TICKETD_REPORT=on.");
        return true;
    }
    const char *problem = read_question(query, &question);
    if (problem) {
        answer_problem(answer, 400, problem);
        return true;
    }
    if (!waiter) {
        append_answer(answer, dashboard, look(dashboard, &question));
        return true;
    }
    if (park(dashboard, &question, waiter))
        return false;
    answer_problem(answer, 503, "Too many ask for reports.");
    return true;
}
