/* The input is what a peer sends on a FastCGI connection. However it is cut into pieces records_look says the same of
 * it, and what it lets pass libfcgi reads without waiting for more, and answers.
 *
 * A good request is also made of the input: that one passes, and libfcgi gives back what was put into it. */
#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "web/records.h"
#include "web/request.h"

#define BEGIN_REQUEST 1
#define END_REQUEST   3
#define PARAMS        4
#define STDIN         5
#define STDOUT        6
#define HEADER        8

#define MOST_BYTES 100000 /* a socket holds these until they are read */
#define MOST_BODY  60000
#define MOST_PAIRS 16
#define WAITED_MS  1900 /* libfcgi waits for two seconds */

static const char answer_bytes[] = "Status: 200 OK\r\n\r\n{}\n";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    require(request_library_init());
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    return 0;
}

/* ---- pieces */

static enum records_state look_in_pieces(struct records *records, const uint8_t *bytes, size_t length)
{
    enum records_state state = RECORDS_PART;

    for (size_t at = 0; at < length && state == RECORDS_PART;) {
        size_t piece = 1 + bytes[at] % 16;
        if (piece > length - at)
            piece = length - at;
        state = records_look(records, bytes + at, piece);
        at += piece;
    }
    return state;
}

/* Where the request ends; 0 if it does not. */
static size_t whole_length(const uint8_t *bytes, size_t length)
{
    struct records records = {0};
    enum records_state state = RECORDS_PART;
    size_t at = 0;

    while (at < length && state == RECORDS_PART)
        state = records_look(&records, bytes + at++, 1);
    return state == RECORDS_WHOLE ? at : 0;
}

static enum records_state check_pieces(const uint8_t *bytes, size_t length)
{
    struct records at_once, in_pieces;

    memset(&at_once, 0, sizeof(at_once)); /* the padding too: they are compared */
    memset(&in_pieces, 0, sizeof(in_pieces));
    enum records_state state = records_look(&at_once, bytes, length);
    require(look_in_pieces(&in_pieces, bytes, length) == state);
    if (state == RECORDS_PART)
        require(memcmp(&at_once, &in_pieces, sizeof(at_once)) == 0);
    require((state == RECORDS_WHOLE) == (whole_length(bytes, length) > 0));
    return state;
}

/* ---- through libfcgi */

/* What is known of a request that was made here. */
struct made {
    const char *names[MOST_PAIRS], *values[MOST_PAIRS];
    size_t pairs;
    const uint8_t *body;
    size_t length;
};

#define VARIABLE(name, field)                                                                                          \
    {                                                                                                                  \
        name, offsetof(struct request_head, field)                                                                     \
    }
static const struct {
    const char *name;
    size_t offset;
} variables[] = {
    VARIABLE("REQUEST_METHOD", method),
    VARIABLE("REQUEST_URI", uri),
    VARIABLE("PATH_INFO", path_info),
    VARIABLE("SCRIPT_NAME", script_name),
    VARIABLE("QUERY_STRING", query),
    VARIABLE("HTTP_AUTHORIZATION", authorization),
    VARIABLE("CONTENT_LENGTH", content_length),
    VARIABLE("HTTP_CONTENT_ENCODING", content_encoding),
    VARIABLE("REQUEST_ID", request_id),
};
#define VARIABLES (sizeof(variables) / sizeof(variables[0]))

static void check_head(const struct request_head *head, const struct made *made)
{
    for (size_t v = 0; v < VARIABLES; v++) {
        const char *expected = "", *value = *(const char *const *)((const char *)head + variables[v].offset);
        for (size_t i = 0; i < made->pairs; i++)
            if (strcmp(made->names[i], variables[v].name) == 0)
                expected = made->values[i];
        require(strcmp(value, expected) == 0);
    }
}

static void check_made(struct request *request, const struct made *made, enum outcome outcome)
{
    check_head(request_head(request), made);
    if (outcome == OUTCOME_NONE) {
        size_t length;
        char *body = request_take_body(request, &length);
        require(body && length == made->length);
        require(memcmp(body, made->body, length) == 0);
        free(body);
    } else {
        require(outcome == OUTCOME_TOO_LARGE || *request_head(request)->content_length);
    }
}

/* The web server's side: the text of the answer in records, and that this is its end. */
static void check_answer(int peer, unsigned id)
{
    uint8_t bytes[1024];
    ssize_t length = recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT);
    size_t texts = 0, at = 0;
    uint8_t type = 0;

    require(length > 0);
    while (at < (size_t)length && type != END_REQUEST) {
        const uint8_t *head = bytes + at;
        require((size_t)length - at >= HEADER);
        require(head[0] == 1 && (unsigned)(head[2] << 8 | head[3]) == id);
        size_t content = (size_t)(head[4] << 8 | head[5]);
        at += HEADER + content + head[6];
        require(at <= (size_t)length);
        type = head[1];
        if (type == STDOUT) {
            require(texts + content <= sizeof(answer_bytes) - 1);
            require(memcmp(head + HEADER, answer_bytes + texts, content) == 0);
            texts += content;
        } else {
            require(type == END_REQUEST);
        }
    }
    require(type == END_REQUEST && at == (size_t)length);
    require(texts == sizeof(answer_bytes) - 1);
}

/* One request; whether another may follow. */
static bool serve_one(struct request *request, int peer, size_t max_body, unsigned id, const struct made *made)
{
    struct text answer = {0};

    require(request_begin(request));
    enum outcome outcome = request_read(request, max_body);
    require(outcome == OUTCOME_NONE || outcome == OUTCOME_BAD_REQUEST || outcome == OUTCOME_TOO_LARGE);
    require((outcome == OUTCOME_BAD_REQUEST) == (request_problem(request) != NULL));
    if (made)
        check_made(request, made, outcome);
    text_append_bytes(&answer, answer_bytes, sizeof(answer_bytes) - 1);
    bool kept = request_answer(request, &answer, true);
    text_free(&answer);
    check_answer(peer, id);
    return kept;
}

/* Sends the bytes and serves the requests in them. Returns how long that took. */
static int64_t serve(const uint8_t *bytes, size_t length, size_t max_body, const struct made *made)
{
    int sockets[2];
    int64_t start = clock_monotonic_ms();

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    require(send(sockets[0], bytes, length, MSG_DONTWAIT) == (ssize_t)length);
    struct request *request = request_open(sockets[1]);
    require(request);
    enum request_state state = request_look(request, max_body);
    require((state == REQUEST_HEAD ? request_look(request, max_body) : state) == REQUEST_WHOLE);
    if (serve_one(request, sockets[0], max_body, (unsigned)(bytes[2] << 8 | bytes[3]), made)) {
        /* All was read: nothing of it may be taken for another request. */
        char byte;
        if (whole_length(bytes, length) == length)
            require(recv(sockets[1], &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN);
    }
    request_free(request);
    close(sockets[0]);
    return clock_monotonic_ms() - start;
}

/* A busy machine may let a process wait, hardly twice. */
static void check_libfcgi(const uint8_t *bytes, size_t length, size_t max_body, const struct made *made)
{
    require(serve(bytes, length, max_body, made) < WAITED_MS || serve(bytes, length, max_body, made) < WAITED_MS);
}

/* ---- a good request */

/* What is left of the input to choose by. */
struct choices {
    const uint8_t *at, *end;
};

static uint8_t choose(struct choices *choices)
{
    return choices->at < choices->end ? *choices->at++ : 0;
}

static void append_header(struct text *bytes, uint8_t type, unsigned id, size_t content, uint8_t padding)
{
    const uint8_t header[HEADER] = {
        1, type, (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(content >> 8), (uint8_t)content, padding};
    text_append_bytes(bytes, (const char *)header, sizeof(header));
}

/* The content in records of any length, and the empty one: that has no padding, which libfcgi would not skip. */
static void append_stream(struct text *bytes, struct choices *choices, uint8_t type, unsigned id,
                          const struct text *content)
{
    static const char zeros[255];

    for (size_t at = 0; at <= content->length;) {
        size_t left = content->length - at, piece = (size_t)choose(choices) * 16 + 1;
        uint8_t padding = left > 0 ? choose(choices) : 0;
        if (piece > left || choices->at == choices->end)
            piece = left < 65535 ? left : 65535;
        append_header(bytes, type, id, piece, padding);
        text_append_bytes(bytes, content->bytes + at, piece);
        text_append_bytes(bytes, zeros, padding);
        at += piece ? piece : 1;
    }
}

/* One byte below 128, or four. */
static void append_length(struct text *bytes, size_t length, bool as_four)
{
    const uint8_t four[] = {0x80, 0, (uint8_t)(length >> 8), (uint8_t)length};
    if (length < 128 && !as_four)
        text_append_bytes(bytes, (const char *)&four[3], 1);
    else
        text_append_bytes(bytes, (const char *)four, sizeof(four));
}

/* A text of the next bytes; what libfcgi would take for the end of a name or a value does not occur in it. */
static char *choose_text(struct choices *choices, size_t length)
{
    char *text = malloc(length + 1);
    require(text);
    for (size_t i = 0; i < length; i++) {
        uint8_t c = choose(choices);
        text[i] = c == '\0' || c == '=' ? '_' : (char)c;
    }
    text[length] = '\0';
    return text;
}

static bool is_new_name(const struct made *made, const char *name)
{
    for (size_t i = 0; i < made->pairs; i++)
        if (strcmp(made->names[i], name) == 0)
            return false;
    return *name;
}

static void append_pairs(struct text *params, struct choices *choices, struct made *made)
{
    size_t pairs = choose(choices) % (MOST_PAIRS + 1);

    for (size_t i = 0; i < pairs; i++) {
        uint8_t forms = choose(choices);
        size_t name_length = forms % 32, value_length = choose(choices);
        bool known = name_length < VARIABLES;
        char *name = known ? strdup(variables[name_length].name) : choose_text(choices, name_length);
        char *value = choose_text(choices, value_length);
        require(name);
        name_length = strlen(name);
        append_length(params, name_length, forms & 0x80);
        append_length(params, value_length, forms & 0x40);
        text_append_bytes(params, name, name_length);
        text_append_bytes(params, value, value_length);
        if (is_new_name(made, name)) { /* of a repeated one the first counts */
            made->names[made->pairs] = name;
            made->values[made->pairs++] = value;
        } else {
            free(name);
            free(value);
        }
    }
}

static void check_good_request(const uint8_t *input, size_t input_length)
{
    struct choices choices = {input, input + input_length};
    struct text bytes = {0}, params = {0}, body = {0};
    struct made made = {0};
    unsigned id = 1 + choose(&choices);
    const uint8_t flags = choose(&choices), begin[] = {0, 1, flags, 0, 0, 0, 0, 0};
    size_t max_body = choose(&choices) % 2 ? 100 : MOST_BODY, copies = choose(&choices);

    append_pairs(&params, &choices, &made);
    text_append(&params, "");
    for (size_t i = 0; i <= copies && body.length + input_length < MOST_BODY; i++)
        text_append_bytes(&body, (const char *)choices.at, (size_t)(choices.end - choices.at));
    text_append(&body, "");
    append_header(&bytes, BEGIN_REQUEST, id, sizeof(begin), 0);
    text_append_bytes(&bytes, (const char *)begin, sizeof(begin));
    append_stream(&bytes, &choices, PARAMS, id, &params);
    append_stream(&bytes, &choices, STDIN, id, &body);
    require(!bytes.failed && !params.failed && !body.failed);

    made.body = (const uint8_t *)body.bytes;
    made.length = body.length;
    require(check_pieces((uint8_t *)bytes.bytes, bytes.length) == RECORDS_WHOLE);
    require(whole_length((uint8_t *)bytes.bytes, bytes.length) == bytes.length);
    if (bytes.length <= MOST_BYTES)
        check_libfcgi((uint8_t *)bytes.bytes, bytes.length, max_body, &made);
    for (size_t i = 0; i < made.pairs; i++) {
        free((char *)made.names[i]);
        free((char *)made.values[i]);
    }
    text_free(&bytes);
    text_free(&params);
    text_free(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length > MOST_BYTES)
        return -1;
    if (check_pieces(bytes, length) == RECORDS_WHOLE)
        check_libfcgi(bytes, length, bytes[7] % 2 ? 100 : MOST_BODY, NULL);
    check_good_request(bytes, length);
    return 0;
}
