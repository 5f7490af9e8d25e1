/* The first look at a body, before cJSON parses it: what cJSON would let through is refused here. */
#include "event/json.h"
#include "base/text.h"

#include <string.h>

/* cJSON's own limit (CJSON_NESTING_LIMIT): reached here first, it can be named in the answer. */
#define DEPTH_MAX     1000
#define EXPONENTS_MAX 1000000 /* of all numbers of a body together */
#define DIGITS_MAX    1000    /* of one number, written out */

struct scan {
    const unsigned char *at; /* after a failure: the byte that is wrong */
    const unsigned char *end;
    int depth;
    bool has_nul;
    long exponents; /* of all numbers, added up */
};

static bool is_digit(const struct scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* The code unit of the \uXXXX here, -1 if there is none. */
static int escaped_unit(const struct scan *s)
{
    if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u')
        return -1;
    int unit = 0;
    for (int i = 2; i < 6; i++) {
        unsigned char c = s->at[i];
        unsigned char letter = c | 0x20;
        if (c >= '0' && c <= '9')
            unit = unit * 16 + c - '0';
        else if (letter >= 'a' && letter <= 'f')
            unit = unit * 16 + letter - 'a' + 10;
        else
            return -1;
    }
    return unit;
}

static const char *check_escape(struct scan *s)
{
    if (s->end - s->at >= 2 && memchr("\"\\/bfnrt", s->at[1], 8)) {
        s->at += 2;
        return NULL;
    }
    int unit = escaped_unit(s);
    if (unit < 0)
        return "is not JSON: a malformed escape";
    if (unit == 0)
        s->has_nul = true;
    if (unit >= 0xd800 && unit <= 0xdfff) {
        struct scan next = {.at = s->at + 6, .end = s->end};
        int low = escaped_unit(&next);
        if (unit >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
            return "is not JSON: a lone surrogate";
        s->at += 6;
    }
    s->at += 6;
    return NULL;
}

static const char *check_character(struct scan *s)
{
    if (*s->at < 0x20)
        return "is not JSON: a control character";
    size_t length = text_utf8(s->at, (size_t)(s->end - s->at));
    if (length == 0)
        return "is not UTF-8";
    s->at += length;
    return NULL;
}

static const char *check_string(struct scan *s)
{
    const char *wrong = NULL;

    s->at++;
    while (!wrong && s->at < s->end && *s->at != '"')
        wrong = *s->at == '\\' ? check_escape(s) : check_character(s);
    if (wrong)
        return wrong;
    if (s->at == s->end)
        return "is not JSON: it ends inside a string";
    s->at++;
    return NULL;
}

static bool skip_digits(struct scan *s)
{
    if (!is_digit(s))
        return false;
    while (is_digit(s))
        s->at++;
    return true;
}

/* numeric, which jsonb holds, is written out with as many digits as the exponent says; so it is by each SELECT and
 * dump. */
static void add_digits(struct scan *s, const unsigned char *digits, size_t written)
{
    size_t exponent = 0;

    for (; digits < s->at && exponent <= EXPONENTS_MAX; digits++)
        exponent = exponent * 10 + (size_t)(*digits - '0');
    if (s->exponents <= EXPONENTS_MAX)
        s->exponents += (long)exponent;
    if (written + exponent > DIGITS_MAX)
        s->exponents = EXPONENTS_MAX + 1;
}

/* RFC 8259 section 6. */
static const char *check_number(struct scan *s)
{
    static const char malformed[] = "is not JSON: a malformed number";

    if (*s->at == '-')
        s->at++;
    const unsigned char *first = s->at;
    bool zero = is_digit(s) && *s->at == '0';
    if (zero)
        s->at++;
    if (zero == is_digit(s))
        return malformed;
    while (is_digit(s))
        s->at++;
    size_t written = (size_t)(s->at - first);
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!skip_digits(s))
            return malformed;
        written = (size_t)(s->at - first) - 1;
    }
    const unsigned char *digits = s->at; /* of the exponent */
    if (s->at < s->end && (*s->at | 0x20) == 'e') {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        digits = s->at;
        if (!skip_digits(s))
            return malformed;
    }
    add_digits(s, digits, written);
    return NULL;
}

/* A byte between strings and numbers: the parser judges it, unless cJSON would take it for white space or skip it as a
 * second BOM. A backslash is refused so that in a checked text each one begins an escape. */
static const char *check_between(struct scan *s)
{
    switch (*s->at) {
    case '[':
    case '{':
        if (++s->depth > DEPTH_MAX)
            return "is nested too deeply (1000 levels are taken)";
        break;
    case ']':
    case '}':
        s->depth--;
        break;
    case '\t':
    case '\n':
    case '\r':
        break;
    case '\\':
        return "is not JSON: unexpected text";
    default:
        if (*s->at < 0x80)
            return check_character(s);
        return text_utf8(s->at, (size_t)(s->end - s->at)) ? "is not JSON: unexpected text" : "is not UTF-8";
    }
    s->at++;
    return NULL;
}

const char *json_check(const char *bytes, size_t length, struct json_notes *notes, size_t *offset)
{
    const unsigned char *start = (const unsigned char *)bytes;
    struct scan s = {.at = start, .end = start + length};
    const char *wrong = NULL;

    while (!wrong && s.at < s.end) {
        if (*s.at == '"')
            wrong = check_string(&s);
        else if (*s.at == '-' || is_digit(&s))
            wrong = check_number(&s);
        else
            wrong = check_between(&s);
    }
    *notes = (struct json_notes){.has_nul = s.has_nul, .has_giant_numbers = s.exponents > EXPONENTS_MAX};
    *offset = (size_t)(s.at - start);
    return wrong;
}
