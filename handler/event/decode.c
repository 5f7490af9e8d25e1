/* Between the request, which has bytes, and the queue, which wants events: a JSON body becomes a struct event.
 * json.c has refused what cJSON would let through; here cJSON parses, and the contract's rules of decoding apply. */
#include "base/text.h"
#include "event/decode_value.h"
#include "event/event.h"
#include "event/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stands for an escaped U+0000 in what cJSON reads: no byte of UTF-8, so nothing else can be it. */
#define NUL_MARK     '\xff'
#define ESCAPED_NUL  "\\u0000"
#define ESCAPED_SIZE (sizeof(ESCAPED_NUL) - 1)

static const char missing[] = "is missing";

/* Every spelling that a ticket may use. */
static const struct spelling {
    const char *name;
    size_t length;
    enum field field;
    bool alias;
} spellings[] = {
#define FIELD(name, column, type, meaning) {#name, sizeof(#name) - 1, FIELD_##column, false},
#define ALIAS(name, column)                {#name, sizeof(#name) - 1, FIELD_##column, true},
#include "event/fields.def"
#undef FIELD
#undef ALIAS
};

#define SPELLINGS (sizeof(spellings) / sizeof(spellings[0]))

/* A place in the tree, from itself up to the root, which is NULL. Becomes a pointer only where a fault is. */
struct place {
    const struct place *parent;
    const char *name; /* NULL: an element of an array */
    size_t index;
};

struct ticket {
    const cJSON *root, *object;
    const cJSON *spelled[SPELLINGS]; /* the last item of each spelling */
    size_t unknown;                  /* attributes that have no field */
};

/* event_refuse cuts it: of a name of megabytes no more is looked at for each of its faults. */
static void append_token(struct text *pointer, const char *name)
{
    for (; *name && pointer->length <= EVENT_ECHO; name++) {
        if (*name == '~' || *name == '/') {
            text_append(pointer, *name == '~' ? "~0" : "~1");
        } else if (*name == NUL_MARK) {
            text_append(pointer, "\ufffd");
            name += ESCAPED_SIZE - 1;
        } else {
            text_append_bytes(pointer, name, 1);
        }
    }
}

/* RFC 6901. */
static void append_place(struct text *pointer, const struct place *place)
{
    if (!place)
        return;
    append_place(pointer, place->parent);
    text_append(pointer, "/");
    if (place->name)
        append_token(pointer, place->name);
    else
        text_append_format(pointer, "%zu", place->index);
}

/* The verdict does not hang on the memory for its explanation. */
static void add_fault(struct event *event, const struct place *place, const char *detail)
{
    struct text pointer = {0};

    event->refusal = OUTCOME_UNPROCESSABLE;
    if (event->fault_count > EVENT_FAULTS)
        return;
    text_append(&pointer, "");
    append_place(&pointer, place);
    if (!pointer.failed)
        event_refuse(event, OUTCOME_UNPROCESSABLE, pointer.bytes, detail);
    text_free(&pointer);
}

static void refuse_text(struct event *event, const char *wrong, size_t offset)
{
    char detail[128];
    snprintf(detail, sizeof(detail), "%s at byte %zu", wrong, offset);
    event_refuse(event, OUTCOME_BAD_REQUEST, "", detail);
}

/* cJSON ends a string and a name at U+0000: it gets to see a mark in its place. */
static char *mark_nuls(const struct event *event)
{
    char *copy = malloc(event->length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, event->body, event->length + 1);
    /* json_check let pass only a backslash that begins an escape: there is a character behind it. */
    for (char *at = copy; (at = strchr(at, '\\')); at += 2)
        if (strncmp(at, ESCAPED_NUL, ESCAPED_SIZE) == 0)
            memset(at, NUL_MARK, ESCAPED_SIZE);
    return copy;
}

/* The tree of the body, NULL where it is refused; the caller deletes it. notes->has_nul: its strings may hold NUL_MARK.
 * False: out of memory. */
static bool read_tree(struct event *event, cJSON **root, struct json_notes *notes)
{
    size_t offset;
    const char *end = NULL;
    char *marked = NULL;

    if (event->length == 0) {
        event_refuse(event, OUTCOME_BAD_REQUEST, "", "is empty");
        return true;
    }
    const char *wrong = json_check(event->body, event->length, notes, &offset);
    if (wrong) {
        refuse_text(event, wrong, offset);
        return true;
    }
    if (notes->has_nul) {
        marked = mark_nuls(event);
        if (!marked)
            return false;
    }
    const char *text = marked ? marked : event->body;
    errno = 0; /* the only way to tell cJSON's lack of memory from a fault of the body */
    *root = cJSON_ParseWithLengthOpts(text, event->length + 1, &end, true);
    bool exhausted = errno == ENOMEM;
    offset = end ? (size_t)(end - text) : 0;
    free(marked);
    if (!*root && !exhausted)
        refuse_text(event, offset < event->length ? "is not JSON: unexpected text" : "is not JSON: it ends too early",
                    offset);
    return *root || !exhausted;
}

/* As deep as json_check lets it be nested. */
static void refuse_nuls(struct event *event, const cJSON *item, const struct place *place)
{
    if (cJSON_IsString(item) && strchr(item->valuestring, (unsigned char)NUL_MARK))
        add_fault(event, place, "holds \\u0000, which no column can hold");
    size_t index = 0;
    for (const cJSON *child = item->child; child; child = child->next) {
        struct place inside = {place, child->string, index++};
        if (child->string && strchr(child->string, (unsigned char)NUL_MARK))
            add_fault(event, place, "has a name that holds \\u0000");
        refuse_nuls(event, child, &inside);
    }
}

static size_t find_spelling(const char *name)
{
    size_t length = strlen(name), i = 0;
    while (i < SPELLINGS && (spellings[i].length != length || memcmp(spellings[i].name, name, length) != 0))
        i++;
    return i;
}

/* "action" and "ticket" of the whole. False: there is no ticket to look into. */
static bool decode_envelope(struct event *event, const cJSON *root, struct ticket *ticket)
{
    const cJSON *action = NULL, *object = NULL;
    const struct place action_place = {NULL, "action", 0}, ticket_place = {NULL, "ticket", 0};

    if (!cJSON_IsObject(root)) {
        add_fault(event, NULL, "must be an object");
        return false;
    }
    for (const cJSON *child = root->child; child; child = child->next) {
        if (strcmp(child->string, action_place.name) == 0)
            action = child;
        else if (strcmp(child->string, ticket_place.name) == 0)
            object = child;
    }
    const char *word = cJSON_IsString(action) ? action->valuestring : "";
    while (event->action < ACTION_COUNT && strcmp(word, action_name(event->action)) != 0)
        event->action++;
    if (event->action == ACTION_COUNT) {
        event->action = ACTION_ADD;
        add_fault(event, &action_place, !action ? missing : "must be \"add\", \"update\" or \"delete\"");
    }

    /* PHP writes an empty object as []. */
    bool empty_array = cJSON_IsArray(object) && !object->child;
    bool usable = cJSON_IsObject(object) || empty_array;
    if (!usable)
        add_fault(event, &ticket_place, !object ? missing : "must be an object");
    ticket->root = root;
    ticket->object = object;
    return usable;
}

/* Counts the numbers of the tree up to `item`, in the order of the text. True: it was found. */
static bool count_numbers(const cJSON *tree, const cJSON *item, size_t *count)
{
    bool found = false;

    for (; tree && !found; tree = tree->next) {
        *count += cJSON_IsNumber(tree) ? 1 : 0;
        found = tree == item || count_numbers(tree->child, item, count);
    }
    return found;
}

/* A number for a text is its digits as they were sent, of which cJSON's double tells no more. */
static void read_digits(const struct event *event, const struct ticket *ticket, const cJSON *item, struct value *value)
{
    const char *at = event->body;
    size_t left = 0;

    (void)!count_numbers(ticket->root, item, &left);
    while (left > 0) {
        at += strcspn(at, "\"-0123456789");
        if (*at != '"') {
            value->text = at;
            value->length = strspn(at, "+-.0123456789Ee");
            at += value->length;
            left--;
        } else {
            for (at++; *at != '"'; at++)
                at += *at == '\\';
            at++;
        }
    }
    value->presence = PRESENT;
}

static void decode_ticket(struct event *event, struct ticket *ticket)
{
    const struct place place = {NULL, "ticket", 0};
    const cJSON *items[FIELD_COUNT] = {NULL};

    for (const cJSON *child = ticket->object->child; child; child = child->next) {
        size_t i = find_spelling(child->string);
        if (i < SPELLINGS)
            ticket->spelled[i] = child;
        else
            ticket->unknown++;
    }
    for (size_t i = 0; i < SPELLINGS; i++)
        if (ticket->spelled[i] && (!spellings[i].alias || !items[spellings[i].field]))
            items[spellings[i].field] = ticket->spelled[i];

    for (int f = 0; f < FIELD_COUNT; f++) {
        struct place inside = {&place, items[f] ? items[f]->string : event_fields[f].name, 0};
        const char *wrong = NULL;
        if (event_fields[f].type == TYPE_TEXT && items[f] && cJSON_IsNumber(items[f]))
            read_digits(event, ticket, items[f], &event->values[f]);
        else
            wrong = decode_value(items[f], event_fields[f].type, &event->values[f]);
        if (wrong)
            add_fault(event, &inside, wrong);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Moves texts and names from the tree into the event. Decoded, they are never longer than in the body, and the NUL
 * behind each takes less than its quotes did, or those of a number's name. False: out of memory. */
static bool keep_texts(struct event *event, const struct ticket *ticket)
{
    char *free_text = event->text = malloc(event->length + 1);
    if (ticket->unknown)
        event->extra = malloc(ticket->unknown * sizeof(*event->extra));
    if (!event->text || (ticket->unknown && !event->extra))
        return false;
    for (int f = 0; f < FIELD_COUNT; f++) {
        struct value *value = &event->values[f];
        if (!value->text)
            continue;
        value->text = memcpy(free_text, value->text, value->length);
        free_text[value->length] = '\0';
        free_text += value->length + 1;
    }
    size_t count = 0;
    for (const cJSON *child = ticket->object->child; ticket->unknown && child; child = child->next) {
        if (find_spelling(child->string) < SPELLINGS)
            continue;
        event->extra[count++] = free_text;
        free_text = stpcpy(free_text, child->string) + 1;
    }
    if (count)
        qsort(event->extra, count, sizeof(*event->extra), by_name);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(event->extra[i], event->extra[event->extra_count - 1]) != 0)
            event->extra[event->extra_count++] = event->extra[i];
    return true;
}

bool event_decode(struct event *event)
{
    static const char bom[] = "\ufeff";
    cJSON *root = NULL;
    struct json_notes notes = {0};
    bool good = false;
    struct ticket ticket = {0};

    if (event->length >= sizeof(bom) - 1 && memcmp(event->body, bom, sizeof(bom) - 1) == 0) {
        event->body += sizeof(bom) - 1;
        event->length -= sizeof(bom) - 1;
    }
    if (!read_tree(event, &root, &notes))
        goto out;
    if (root && notes.has_nul)
        refuse_nuls(event, root, NULL);
    if (root && notes.has_giant_numbers)
        add_fault(event, NULL, "holds a number of more than 1,000 digits, written out (or many, of a million in all)");
    if (root && decode_envelope(event, root, &ticket))
        decode_ticket(event, &ticket);
    good = event->refusal != OUTCOME_NONE || keep_texts(event, &ticket);
out:
    if (!good || event->refusal != OUTCOME_NONE) {
        struct value project = event->values[FIELD_project_id], ticket_id = event->values[FIELD_ticket_id];
        memset(event->values, 0, sizeof(event->values)); /* they point into the tree */
        event->values[FIELD_project_id] = project;
        event->values[FIELD_ticket_id] = ticket_id;
    }
    cJSON_Delete(root);
    return good;
}
