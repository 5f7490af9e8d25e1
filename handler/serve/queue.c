/* Between the threads that read and the writers that commit. */
#include "serve/queue.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define JUMP_US 60000000 /* of the clock, against the monotonic one */

TAILQ_HEAD(waiters, waiter);

struct lane {
    struct waiters waiting; /* in order of their turns */
    pthread_cond_t more;
};

struct queue {
    pthread_mutex_t lock;
    struct waiters verdicts;
    size_t bytes, max_bytes;
    int timeout_ms;
    int verdicts_fd;
    bool awake;      /* nobody waits any more */
    bool by_project; /* see struct lanes */
    int64_t turns;   /* of all that arrived */
    int64_t last_id; /* the time in the last identifier */
    int64_t offset;  /* of the clock from the monotonic one, when the last arrived */
    int slot_count, lane_count;
    int64_t *arrived; /* for each slot the turn of the event being decoded; 0: none */
    struct lane *lanes;
};

struct queue *queue_new(int lanes, int slots, int timeout_ms, size_t max_bytes)
{
    struct queue *queue = calloc(1, sizeof(*queue));
    if (!queue)
        return NULL;

    pthread_mutex_init(&queue->lock, NULL);
    TAILQ_INIT(&queue->verdicts);
    queue->timeout_ms = timeout_ms;
    queue->max_bytes = max_bytes;
    queue->verdicts_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->arrived = calloc((size_t)slots, sizeof(*queue->arrived));
    queue->slot_count = slots;
    queue->lanes = calloc((size_t)lanes, sizeof(*queue->lanes));
    for (int i = 0; queue->lanes && i < lanes; i++) {
        TAILQ_INIT(&queue->lanes[i].waiting);
        clock_condition_init(&queue->lanes[i].more);
        queue->lane_count++;
    }
    if (queue->verdicts_fd < 0 || !queue->arrived || !queue->lanes) {
        queue_free(queue);
        return NULL;
    }
    return queue;
}

void queue_free(struct queue *queue)
{
    if (!queue)
        return;
    for (int i = 0; i < queue->lane_count; i++)
        pthread_cond_destroy(&queue->lanes[i].more);
    if (queue->verdicts_fd >= 0)
        close(queue->verdicts_fd);
    pthread_mutex_destroy(&queue->lock);
    free(queue->lanes);
    free(queue->arrived);
    free(queue);
}

/* The time for the next identifier. */
static int64_t time_of_id(struct queue *queue, int64_t now, int64_t monotonic)
{
    int64_t jump = now - monotonic - queue->offset, ahead = queue->last_id - now;

    if (queue->turns > 0 && (jump > JUMP_US || jump < -JUMP_US))
        log_line(LOG_WARNING, "the clock jumped: times of receipt follow it", LOG_NUMBER("seconds", jump / 1000000));
    queue->turns++;
    queue->offset = now - monotonic;
    queue->last_id = ahead >= 0 && ahead <= JUMP_US ? queue->last_id + 1 : now;
    return queue->last_id;
}

/* Under the lock. */
static void hold_back_nobody(struct queue *queue, int slot, struct waiter *waiter)
{
    queue->arrived[slot] = 0;
    waiter->event.waited = true; /* others may overtake it */
}

void queue_arrive(struct queue *queue, int slot, struct waiter *waiter)
{
    pthread_mutex_lock(&queue->lock);
    waiter->arrived = clock_monotonic_us();
    waiter->event.received_at = clock_realtime_us();
    int64_t id_time = time_of_id(queue, waiter->event.received_at, waiter->arrived);
    waiter->turn = queue->turns;
    queue->arrived[slot] = waiter->turn;
    if (waiter->event.length > QUEUE_LARGE)
        hold_back_nobody(queue, slot, waiter);
    pthread_mutex_unlock(&queue->lock);

    waiter->deadline = waiter->arrived / 1000 + queue->timeout_ms;
    clock_uuid(waiter->event.id, id_time);
}

static void wake_writers(struct queue *queue)
{
    for (int i = 0; i < queue->lane_count; i++)
        if (!TAILQ_EMPTY(&queue->lanes[i].waiting))
            pthread_cond_signal(&queue->lanes[i].more);
}

void queue_unpacked(struct queue *queue, int slot, struct waiter *waiter)
{
    if (waiter->event.length <= QUEUE_LARGE)
        return;
    pthread_mutex_lock(&queue->lock);
    hold_back_nobody(queue, slot, waiter);
    wake_writers(queue);
    pthread_mutex_unlock(&queue->lock);
}

static struct lane *lane_of(struct queue *queue, const struct event *event)
{
    struct lanes lanes = {(unsigned)queue->lane_count, queue->by_project};
    return &queue->lanes[event_lane(event->values[FIELD_project_id].number, event->values[FIELD_ticket_id].number,
                                    lanes)];
}

void queue_divide_by_project(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    for (int i = 0; i < queue->lane_count && !queue->by_project; i++)
        for (struct waiter *w = TAILQ_FIRST(&queue->lanes[i].waiting); w; w = TAILQ_NEXT(w, link))
            w->event.waited = true; /* others of its ticket may overtake it */
    queue->by_project = true;
    pthread_mutex_unlock(&queue->lock);
}

enum outcome queue_submit(struct queue *queue, int slot, struct waiter *waiter)
{
    enum outcome outcome = OUTCOME_UNAVAILABLE;

    pthread_mutex_lock(&queue->lock);
    if (queue->bytes + waiter->event.length <= queue->max_bytes) {
        struct lane *lane = lane_of(queue, &waiter->event);
        struct waiter *before = TAILQ_LAST(&lane->waiting, waiters);
        while (before && before->turn > waiter->turn)
            before = TAILQ_PREV(before, waiters, link);
        if (before)
            TAILQ_INSERT_AFTER(&lane->waiting, before, waiter, link);
        else
            TAILQ_INSERT_HEAD(&lane->waiting, waiter, link);
        queue->bytes += waiter->event.length;
        outcome = OUTCOME_NONE;
        metrics_add(METRIC_QUEUE_EVENTS, 1);
        metrics_set(METRIC_QUEUE_BYTES, (int64_t)queue->bytes);
        if (waiter->event.refusal == OUTCOME_NONE)
            metrics_set(METRIC_LAST_EVENT, waiter->event.received_at);
    }
    queue->arrived[slot] = 0;
    wake_writers(queue);
    pthread_mutex_unlock(&queue->lock);
    return outcome;
}

void queue_withdraw(struct queue *queue, int slot)
{
    pthread_mutex_lock(&queue->lock);
    queue->arrived[slot] = 0;
    wake_writers(queue);
    pthread_mutex_unlock(&queue->lock);
}

/* Only events that arrived before this may be taken now. */
static int64_t oldest_undecoded(const struct queue *queue)
{
    int64_t oldest = INT64_MAX;
    for (int i = 0; i < queue->slot_count; i++)
        if (queue->arrived[i] && queue->arrived[i] < oldest)
            oldest = queue->arrived[i];
    return oldest;
}

static size_t take_ready(struct queue *queue, struct lane *lane, struct waiter **batch, size_t most)
{
    int64_t before = oldest_undecoded(queue);
    size_t count = 0, bytes = 0;
    struct waiter *waiter;

    while (count < most && (waiter = TAILQ_FIRST(&lane->waiting)) && waiter->turn < before) {
        bytes += waiter->event.length;
        if (count && bytes > STORE_BATCH_BYTES)
            break;
        TAILQ_REMOVE(&lane->waiting, waiter, link);
        batch[count++] = waiter;
    }
    return count;
}

size_t queue_take(struct queue *queue, int lane_number, struct waiter **batch, size_t most, int wait_ms)
{
    struct lane *lane = &queue->lanes[lane_number];
    struct timespec until = clock_monotonic_in(wait_ms);
    size_t count;

    pthread_mutex_lock(&queue->lock);
    while ((count = take_ready(queue, lane, batch, most)) == 0)
        if (queue->awake || pthread_cond_timedwait(&lane->more, &queue->lock, &until) != 0)
            break;
    pthread_mutex_unlock(&queue->lock);
    return count;
}

void queue_wake(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->awake = true;
    for (int i = 0; i < queue->lane_count; i++)
        pthread_cond_signal(&queue->lanes[i].more);
    pthread_mutex_unlock(&queue->lock);
}

void queue_finish(struct queue *queue, struct waiter **batch, size_t count)
{
    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < count; i++) {
        queue->bytes -= batch[i]->event.length;
        TAILQ_INSERT_TAIL(&queue->verdicts, batch[i], link);
    }
    metrics_add(METRIC_QUEUE_EVENTS, -(int64_t)count);
    metrics_set(METRIC_QUEUE_BYTES, (int64_t)queue->bytes);
    pthread_mutex_unlock(&queue->lock);
    eventfd_write(queue->verdicts_fd, 1);
}

void queue_answer(struct queue *queue, struct waiter *waiter)
{
    pthread_mutex_lock(&queue->lock);
    TAILQ_INSERT_TAIL(&queue->verdicts, waiter, link);
    pthread_mutex_unlock(&queue->lock);
    eventfd_write(queue->verdicts_fd, 1);
}

int queue_verdicts_fd(const struct queue *queue)
{
    return queue->verdicts_fd;
}

void queue_clear_verdicts_fd(struct queue *queue)
{
    eventfd_t ignored;
    (void)!eventfd_read(queue->verdicts_fd, &ignored);
}

struct waiter *queue_next_verdict(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    struct waiter *waiter = TAILQ_FIRST(&queue->verdicts);
    if (waiter)
        TAILQ_REMOVE(&queue->verdicts, waiter, link);
    pthread_mutex_unlock(&queue->lock);
    return waiter;
}
