/* Beside the spool: how much waits in it. */
#include "spool/spool_survey.h"
#include "base/metrics.h"
#include "spool/segment.h"

#include <stdlib.h>
#include <sys/stat.h>

/* A segment, as far as it was looked through. */
struct surveyed {
    uint64_t number;
    uint64_t events;
    int64_t oldest;
    int64_t end;
};

/* Goes on behind what was counted before. */
static void look_on(struct surveyed *segment, int fd, int64_t size)
{
    struct segment_reader reader;
    struct event event;

    if (segment_open(&reader, fd, size) != SEGMENT_END)
        return;
    if (segment->end > reader.at)
        reader.at = segment->end;
    if (segment->events == 0 && segment_next(&reader, &event) == SEGMENT_RECORD) {
        segment->oldest = event.received_at;
        segment->events++;
        event_free(&event);
    }
    segment->end = reader.at;
    for (;;) {
        switch (segment_next(&reader, NULL)) {
        case SEGMENT_RECORD:
            segment->events++;
            break;
        case SEGMENT_BAD:
            break;
        default: /* the end, perhaps in the middle of a record that is being written */
            return;
        }
        segment->end = reader.at;
    }
}

void spool_survey_look(struct spool_survey *survey, int directory, const struct spool_contents *contents)
{
    struct surveyed *segments = calloc(contents->count + 1, sizeof(*segments));
    size_t known = 0; /* both are in the order of their numbers */
    struct stat stat;

    if (!segments)
        return;
    survey->events = 0;
    survey->oldest = 0;
    survey->bytes = contents->bytes;
    for (size_t i = 0; i < contents->count; i++) {
        struct surveyed *segment = &segments[i];
        segment->number = contents->segments[i];
        while (known < survey->count && survey->segments[known].number < segment->number)
            known++;
        if (known < survey->count && survey->segments[known].number == segment->number)
            *segment = survey->segments[known];
        int fd = spool_segment(directory, segment->number);
        if (fd >= 0 && fstat(fd, &stat) == 0)
            look_on(segment, fd, stat.st_size);
        spool_close_file(fd);
        survey->events += segment->events;
        if (survey->oldest == 0)
            survey->oldest = segment->oldest;
    }
    free(survey->segments);
    survey->segments = segments;
    survey->count = contents->count;
}

void spool_survey_measure(struct spool_survey *survey, const char *path)
{
    struct spool_contents contents = {0};
    const char *ignored;
    int directory = spool_directory(path, &ignored);

    if (directory < 0 || spool_list(directory, &contents)) {
        spool_survey_look(survey, directory, &contents);
        metrics_set(METRIC_SPOOL_EVENTS, (int64_t)survey->events);
        metrics_set(METRIC_SPOOL_BYTES, survey->bytes);
        metrics_set(METRIC_SPOOL_OLDEST, survey->oldest);
    }
    spool_contents_free(&contents);
    spool_close_file(directory);
}

void spool_survey_free(struct spool_survey *survey)
{
    free(survey->segments);
    *survey = (struct spool_survey){0};
}
