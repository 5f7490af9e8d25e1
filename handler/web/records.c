/* Before request.c lets libfcgi read: every byte of a request is looked at once, however it is cut into pieces. */
#include "web/records.h"

#define VERSION_1      1
#define BEGIN_REQUEST  1
#define PARAMS         4
#define STDIN          5
#define RESPONDER      1
#define BEGIN_BODY     8
#define PARAMETERS_MAX 65536 /* bytes: web servers allow less */

/* The next byte of the name-value pairs (section 3.4): a length is one byte, or four with the highest bit set. */
static bool look_at_parameter(struct records *r, uint8_t byte)
{
    if (++r->parameter_bytes > PARAMETERS_MAX)
        return false;
    if (r->pair_left > 0) {
        r->pair_left--;
        return byte != '\0'; /* it would end the name or value for whoever reads it, and hide the rest */
    }
    int which = r->length_bytes[0] == 0 || (r->lengths[0] >> 31 && r->length_bytes[0] < 4) ? 0 : 1;
    if (r->length_bytes[which]++ == 0)
        r->lengths[which] = byte & 0x80 ? (uint32_t)1 << 31 | (byte & 0x7f) : byte;
    else
        r->lengths[which] = (uint32_t)1 << 31 | (r->lengths[which] & 0x7fffff) << 8 | byte;
    bool long_length = r->lengths[which] >> 31;
    if (which == 0 || (long_length && r->length_bytes[1] < 4))
        return true;
    for (int i = 0; i < 2; i++) {
        r->pair_left += r->lengths[i] & 0x7fffffff;
        r->lengths[i] = 0;
        r->length_bytes[i] = 0;
    }
    return r->pair_left <= PARAMETERS_MAX;
}

/* Whether a pair is begun and not ended. */
static bool in_pair(const struct records *r)
{
    return r->pair_left > 0 || r->length_bytes[0] > 0;
}

/* The header of a record is there. */
static enum records_state look_at_header(struct records *r)
{
    const uint8_t *h = r->header;
    unsigned id = (unsigned)h[2] << 8 | h[3];
    bool fits = h[0] == VERSION_1 && id != 0;

    r->content = (size_t)h[4] << 8 | h[5];
    r->padding = h[6];
    r->header_length = 0;
    if (r->stage == 0) {
        r->id = id;
        r->stage = BEGIN_REQUEST;
        fits = fits && h[1] == BEGIN_REQUEST && r->content == BEGIN_BODY;
    } else {
        fits = fits && id == r->id && h[1] == r->stage;
    }
    /* Behind the begin and behind the end of a stream libfcgi does not skip padding: it would read it as records. */
    if (!fits || (r->padding > 0 && (r->stage == BEGIN_REQUEST || r->content == 0)))
        return RECORDS_BAD;
    if (r->stage != BEGIN_REQUEST && r->content == 0) { /* the end of the stream */
        if (r->stage == PARAMS && in_pair(r))
            return RECORDS_BAD;
        r->stage++;
    }
    return RECORDS_PART;
}

static enum records_state look_at_content(struct records *r, uint8_t byte)
{
    r->content--;
    if (r->stage == PARAMS)
        return look_at_parameter(r, byte) ? RECORDS_PART : RECORDS_BAD;
    /* FCGI_BeginRequestBody: two bytes of the role, the flags, five that are reserved. */
    unsigned at = r->begin_length++;
    if (at < 2 && byte != (at == 0 ? RESPONDER >> 8 : RESPONDER))
        return RECORDS_BAD;
    if (r->content == 0)
        r->stage = PARAMS;
    return RECORDS_PART;
}

bool records_have_head(const struct records *r)
{
    return r->stage > PARAMS;
}

enum records_state records_look(struct records *r, const uint8_t *bytes, size_t length)
{
    enum records_state state = RECORDS_PART;
    size_t i = 0;

    while (i < length && state == RECORDS_PART) {
        size_t before = i;
        bool in_head = !records_have_head(r);
        if (r->content > 0 && r->stage == STDIN) {
            size_t skip = r->content < length - i ? r->content : length - i;
            if (r->body)
                text_append_bytes(r->body, (const char *)bytes + i, skip);
            r->content -= skip;
            i += skip;
        } else if (r->content > 0) {
            state = look_at_content(r, bytes[i++]);
        } else if (r->padding > 0) {
            r->padding--;
            i++;
        } else {
            r->header[r->header_length++] = bytes[i++];
            if (r->header_length == sizeof(r->header))
                state = look_at_header(r);
        }
        if (in_head)
            r->head_length += i - before;
        if (state == RECORDS_PART && r->stage > STDIN && r->padding == 0)
            state = RECORDS_WHOLE;
    }
    r->behind = length - i;
    return state;
}
