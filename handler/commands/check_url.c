/* Beside `ticketd check`: an event goes the whole way, from outside, by curl(1). */
#include "commands/check_url.h"
#include "base/clock.h"
#include "base/text.h"
#include "event/decrypt.h"
#include "event/query.h"
#include "event/secrets.h"
#include "spool/spool.h"
#include "store/store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHOWN      120   /* bytes of an answer that is not ours */
#define ANSWER_MAX 65536 /* bytes of it that are read */

/* -- the request --------------------------------------------------------------------------------------------------- */

static void append_parameter(struct text *url, const char *name, const char *value)
{
    text_append_format(url, "%s%s=", strchr(url->bytes, '?') ? "&" : "?", name);
    for (; *value; value++)
        text_append_format(url, isalnum((unsigned char)*value) || strchr("-._~", *value) ? "%c" : "%%%02X",
                           (unsigned char)*value);
}

/* Adds the token, where there is none. False: it cannot be read, which is logged, or no memory. */
static bool complete_url(const struct conf *conf, struct text *url)
{
    const char *query = strchr(url->bytes, '?');
    char *value = malloc(url->length + 1);
    struct secrets tokens = {0};
    size_t length;
    bool good = value;

    if (good && conf->auth == AUTH_TOKEN &&
        query_find(query ? query + 1 : "", conf->token_param, value, &length) == QUERY_NONE)
        good = secrets_read(&tokens, conf->token, conf->token_file, "TICKETD_TOKEN_FILE");
    secrets_trim(&tokens);
    if (tokens.count > 0)
        append_parameter(url, conf->token_param, tokens.all[0].bytes);
    secrets_free(&tokens);
    free(value);
    return good;
}

/* The body, encrypted where bodies are. */
static bool append_body(const struct conf *conf, struct text *url, struct text *body)
{
    struct decrypt *decrypt = decrypt_open(conf);
    struct text plain = {0}, iv = {0};
    bool good = decrypt;

    text_append_format(&plain,
                       "{\"action\": \"add\", \"ticket\": {\"projectId\": 0, \"ticketId\": \"-9223372036854775808\", "
                       "\"title\": \"ticketd check\", \"check\": \"%lld\"}}",
                       (long long)clock_realtime_us());
    if (good && decrypt_key_count(decrypt) > 0) {
        good = decrypt_seal(decrypt, &plain, body, &iv);
        if (good)
            append_parameter(url, "iv", iv.bytes);
    } else {
        text_append(body, plain.bytes);
    }
    text_free(&plain);
    text_free(&iv);
    decrypt_close(decrypt);
    return good;
}

/* A line of curl's configuration: NAME = "VALUE". */
static void append_option(struct text *options, const char *name, const char *value)
{
    text_append_format(options, "%s = \"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            text_append(options, "\\");
        text_append_bytes(options, value, 1);
    }
    text_append(options, "\"\n");
}

/* What curl prints goes to `said`. By its standard input, for what others may see of a process is its arguments. */
static const char *run_curl(const struct text *options, struct text *said)
{
    char *const arguments[] = {"curl", "-q", "--config", "-", NULL};
    int input = memfd_create("curl", MFD_CLOEXEC), output[2] = {-1, -1}, error;
    posix_spawn_file_actions_t actions;
    pid_t child;
    char buffer[4096];
    ssize_t got;

    if (options->failed || input < 0 || !text_write(input, options->bytes, options->length) ||
        lseek(input, 0, SEEK_SET) != 0 || pipe2(output, O_CLOEXEC) != 0)
        return strerror(errno);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    error = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(input);
    close(output[1]);
    while (!error && said->length < ANSWER_MAX && (got = read(output[0], buffer, sizeof(buffer))) > 0)
        text_append_bytes(said, buffer, (size_t)got);
    close(output[0]); /* of a longer answer curl can write no more, and ends */
    if (!error)
        waitpid(child, NULL, 0);
    return error == ENOENT ? "curl is missing: apt-get install curl" : error ? strerror(error) : NULL;
}

/* -- the answer ---------------------------------------------------------------------------------------------------- */

static const struct {
    int status;
    const char *words;
} advice[] = {
    {401, "the ticketd there does not know this token: has it the same file of tokens, and was it reloaded?"},
    {403, "the web server does not let this host in: see allow and deny (nginx), Require (Apache)"},
    {404, "the web server has nothing there: is ticketd's file included in the server of this name?"},
    {503, "it cannot be stored now: see the lines above"},
    {0, "see the web server's log, and ticketd's"},
};

static void append_advice(struct text *words, int status, const char *answer)
{
    size_t i = 0, length = strlen(answer);

    while (advice[i].status && advice[i].status != status)
        i++;
    text_append_format(words, "status %d: %s\n", status, advice[i].words);
    text_append_visible(words, answer, length > SHOWN ? SHOWN : length);
}

/* Of a spooled event: the spool may be another host's, or be drained just now. */
static bool forget_spooled(const struct conf *conf, const uint8_t id[16])
{
    struct spool *spool = *conf->spool_dir ? spool_open(conf) : NULL;
    struct event event, *events[] = {&event};
    bool found = spool && spool_find(spool, id, &event), good = false;

    if (found) {
        event.outcome = OUTCOME_IGNORED;
        good = spool_forget(spool, events, 1);
        event_free(&event);
    }
    spool_close(spool);
    return good;
}

/* Takes the event back; returns the grade. */
static const char *take_back(const struct conf *conf, const char *result, const uint8_t id[16], struct text *words)
{
    _Atomic int64_t stop_at = INT64_MAX;
    struct store *store = store_open(conf, &stop_at, NULL);
    bool was_there = false, spooled = strcmp(result, "spooled") == 0;
    const char *why = "out of memory";

    if (spooled && forget_spooled(conf, id)) {
        text_append(words, "an event was spooled, not stored, and taken back: see the lines above");
        store_close(store);
        return "wrong";
    }
    if (store)
        why = store_forget_check(store, id, clock_monotonic_ms() + conf->db_timeout_ms, &was_there);
    text_append_format(words, "an event was %s, ", result);
    if (was_there)
        text_append(words, "and taken back");
    else if (why)
        text_append_format(words, "and stays: %s\nNext time it is taken back", why);
    else if (spooled)
        text_append(words, "and stays there for now. Next time it is taken back");
    else
        text_append(words, "but not in this database: another ticketd answers there, and has it now");
    store_close(store);
    return was_there ? "ok" : "wrong";
}

void check_url(const struct conf *conf, const char *url,
               void (*say)(void *context, const char *name, const char *grade, const char *words), void *context)
{
    struct text whole = {0}, body = {0}, options = {0}, said = {0}, words = {0};
    const char *grade = "wrong", *problem = "the settings do not let an event be made: see above";
    char result[16], event[37], seconds[16], *last = NULL;
    uint8_t id[16];

    text_append(&whole, url);
    if (*url && complete_url(conf, &whole) && append_body(conf, &whole, &body) && !whole.failed && !body.failed) {
        snprintf(seconds, sizeof(seconds), "%d", conf->db_timeout_ms / 500 + 5);
        text_append(&options, "silent\ngloboff\n");
        append_option(&options, "proto", "=http,https");
        append_option(&options, "max-time", seconds);
        append_option(&options, "header", "Content-Type: application/json");
        append_option(&options, "url", whole.bytes);
        append_option(&options, "data-binary", body.bytes);
        text_append(&options, "write-out = \"\\n%{http_code} %{errormsg}\"\n");
        problem = run_curl(&options, &said);
        last = said.bytes && !said.failed ? strrchr(said.bytes, '\n') : NULL;
    }
    int status = last ? atoi(last + 1) : 0;
    if (last)
        *last = '\0';
    if (problem || status == 0)
        text_append(&words, problem ? problem : last && strlen(last + 1) > 4 ? last + 5 : "curl says nothing");
    else if (status == 200 &&
             sscanf(said.bytes, "{\"result\":\"%15[a-z]\",\"event\":\"%36[0-9a-f-]\"}", result, event) == 2 &&
             clock_uuid_parse(event, id))
        grade = take_back(conf, result, id, &words);
    else
        append_advice(&words, status, said.bytes);
    say(context, "url", grade, words.failed || !words.bytes ? "out of memory" : words.bytes);
    text_free(&whole);
    text_free(&body);
    text_free(&options);
    text_free(&said);
    text_free(&words);
}
