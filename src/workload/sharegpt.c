/* Reading a file of conversations: elements, and the rules that make dialogues of them. */
#include "workload/sharegpt.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/file_map.h"
#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ELEMENT = 1 << 30 }; /* bytes; the parser counts them in an int */

struct cop_sharegpt {
    char *name;
    const char *text, *at, *end;
    cop_file_map map; /* zeroed: the text is borrowed */
    bool skip_bad, begun, in_array;
    uint64_t line;     /* of `at` */
    uint64_t found;    /* dialogues */
    cop_json *element; /* what the last dialogue is borrowed from */
    cop_chat_message *messages;
    size_t messages_capacity;
    cop_arena joined; /* texts of several messages */
    cop_sharegpt_counts counts;
};

cop_status cop_sharegpt_open(cop_sharegpt **out, const char *path, bool skip_bad, cop_error *err)
{
    if (!path || !*path)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.path is empty: it must name a file of conversations");
    cop_file_map map;
    if (cop_file_map_open(&map, path, err) != COP_OK)
        return COP_ERR_INVALID;
    cop_sharegpt_open_text(out, path, (const char *)map.data, map.size, skip_bad);
    (*out)->map = map;
    return COP_OK;
}

void cop_sharegpt_open_text(cop_sharegpt **out, const char *name, const char *text, size_t bytes,
                            bool skip_bad)
{
    cop_sharegpt *r = cop_calloc(1, sizeof *r);
    r->name = cop_strdup(name);
    r->text = r->at = text;
    r->end = text + bytes;
    r->skip_bad = skip_bad;
    r->line = 1;
    *out = r;
}

void cop_sharegpt_close(cop_sharegpt *r)
{
    if (!r)
        return;
    cop_json_free(r->element);
    cop_arena_fini(&r->joined);
    cop_file_map_close(&r->map);
    free(r->messages);
    free(r->name);
    free(r);
}

const char *cop_sharegpt_name(const cop_sharegpt *r)
{
    return r->name;
}

cop_sharegpt_counts cop_sharegpt_count(const cop_sharegpt *r)
{
    cop_sharegpt_counts counts = r->counts;
    counts.bytes = (size_t)(r->at - r->text);
    return counts;
}

size_t cop_sharegpt_bytes(const cop_sharegpt *r)
{
    return (size_t)(r->end - r->text);
}

/* ---- elements ---------------------------------------------------------------------------- */

static void skip_space(cop_sharegpt *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n'))
        r->line += *r->at++ == '\n';
}

static cop_status unexpected(const cop_sharegpt *r, const char *wanted, cop_error *err)
{
    char found[32] = "the end of the file";
    if (r->at<r->end && * r->at> ' ' && *r->at < 127)
        snprintf(found, sizeof found, "'%c'", *r->at);
    else if (r->at < r->end)
        snprintf(found, sizeof found, "byte 0x%02x", (unsigned)(uint8_t)*r->at);
    return cop_fail(err, COP_ERR_CORRUPT, "%s:%llu: expected %s, found %s", r->name,
                    (unsigned long long)r->line, wanted, found);
}

/* Nothing but dialogues counts as a use of the file. */
static cop_status end_reading(const cop_sharegpt *r, cop_error *err)
{
    const cop_sharegpt_counts *c = &r->counts;
    if (r->found)
        return COP_OK;
    if (c->conversations == 0)
        return cop_fail(err, COP_ERR_INVALID, "%s: no conversation in it: it is empty", r->name);
    return cop_fail(err, COP_ERR_CORRUPT,
                    "%s: none of its %llu conversations has a question and an answer (%llu bad)",
                    r->name, (unsigned long long)c->conversations, (unsigned long long)c->bad);
}

static bool accept(cop_sharegpt *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    skip_space(r);
    return true;
}

/* Moves to the '{' of the next element; *more: false at the end. Elements of an array are separated
 * by commas, others by nothing or space. */
static cop_status find_element(cop_sharegpt *r, bool *more, cop_error *err)
{
    bool first = !r->begun;
    r->begun = true;
    skip_space(r);
    if (first)
        r->in_array = accept(r, '[');
    bool comma = !first && r->in_array && accept(r, ',');
    bool may_begin = first || comma || !r->in_array;
    *more = may_begin && r->at < r->end && *r->at == '{';
    if (*more || (!r->in_array && r->at == r->end))
        return COP_OK;
    if (r->in_array && !comma && accept(r, ']'))
        return r->at == r->end ? COP_OK : unexpected(r, "the end of the file after the array", err);
    if (!may_begin)
        return unexpected(r, "',' or ']' after a conversation", err);
    return unexpected(r,
                      first && !r->in_array ? "'[' or '{' to begin a file of conversations"
                                            : "'{' to begin a conversation",
                      err);
}

static void move_to(cop_sharegpt *r, const char *behind)
{
    for (; (r->at = memchr(r->at, '\n', (size_t)(behind - r->at))); r->at++)
        r->line++;
    r->at = behind;
}

/* Where the braces of the element at `at` end, whatever stands between them; NULL: nowhere. */
static const char *find_end(const cop_sharegpt *r)
{
    size_t depth = 0;
    bool quoted = false;
    for (const char *p = r->at; p < r->end; p++) {
        if (quoted && *p == '\\')
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted && *p == '{')
            depth++;
        else if (!quoted && *p == '}' && --depth == 0)
            return p + 1;
    }
    return NULL;
}

/* Parses the element at `at` and moves behind it. Its text may be no JSON, or JSON that base/json.h
 * does not take: with skip_bad it is passed over then, and r->element stays NULL. */
static cop_status take_element(cop_sharegpt *r, cop_error *err)
{
    size_t left = (size_t)(r->end - r->at), bytes;
    cop_error why;
    cop_status status =
        cop_json_parse_first(&r->element, r->at, left < MAX_ELEMENT ? left : MAX_ELEMENT, &bytes,
                             r->name, r->line, &why);
    const char *behind = status == COP_OK ? r->at + bytes : r->skip_bad ? find_end(r) : NULL;
    if (!behind)
        return cop_fail(err, COP_ERR_CORRUPT, "%s, in conversation %llu, from byte %zu on",
                        why.text, (unsigned long long)r->counts.conversations + 1,
                        (size_t)(r->at - r->text));
    move_to(r, behind);
    return COP_OK;
}

/* ---- rules ------------------------------------------------------------------------------- */

static cop_status parse_role(const char *name, cop_role *out, cop_error *err)
{
    static const char *const names[] = {"human", "user", "gpt",       "chatgpt",
                                        "bing",  "bard", "assistant", "system"};
    enum { COUNT = sizeof names / sizeof *names };
    size_t i;
    cop_status status = cop_find_name(name, names, COUNT, "unknown role", &i, err);
    if (status == COP_OK)
        *out = i < 2 ? COP_ROLE_USER : i < COUNT - 1 ? COP_ROLE_ASSISTANT : COP_ROLE_SYSTEM;
    return status;
}

static cop_status parse_message(const cop_json *element, size_t index, cop_chat_message *out,
                                cop_error *err)
{
    const cop_json *message = cop_json_at(element, index);
    if (cop_json_kind_of(message) != COP_JSON_OBJECT)
        return cop_fail(err, COP_ERR_CORRUPT, "message %zu is %s, not an object", index + 1,
                        cop_json_kind_name(cop_json_kind_of(message)));
    const char *from_key = cop_json_get(message, "from") ? "from" : "role";
    const char *text_key = cop_json_get(message, "value") ? "value" : "content";
    const cop_json *from = cop_json_get(message, from_key);
    const cop_json *text = cop_json_get(message, text_key);
    if (!from || !text)
        return cop_fail(err, COP_ERR_CORRUPT, "message %zu has no '%s' or '%s'", index + 1,
                        from ? "value" : "from", from ? "content" : "role");
    const char *role = cop_json_string(from, NULL);
    out->text = cop_json_string(text, &out->bytes);
    if (!role || !out->text)
        return cop_fail(err, COP_ERR_CORRUPT, "'%s' of message %zu is %s, not a string",
                        role ? text_key : from_key, index + 1,
                        cop_json_kind_name(cop_json_kind_of(role ? text : from)));
    cop_error why;
    cop_status status = parse_role(role, &out->role, &why);
    if (status != COP_OK)
        return cop_fail(err, COP_ERR_CORRUPT, "'%s' of message %zu: %s", from_key, index + 1,
                        why.text);
    return COP_OK;
}

/* Rules 2 to 4 for one more message. */
static void add_message(cop_sharegpt *r, cop_dialogue *d, cop_chat_message message)
{
    bool asked = d->count && r->messages[d->count - 1].role != COP_ROLE_SYSTEM;
    if (message.bytes == 0 || (message.role == COP_ROLE_ASSISTANT && !asked))
        return;
    if (message.role == COP_ROLE_SYSTEM && asked)
        message.role = COP_ROLE_USER;
    COP_GROW(r->messages, r->messages_capacity, d->count + 1);
    r->messages[d->count++] = message;
}

/* Texts of run[count] with empty lines between them, as one. */
static cop_chat_message join(cop_sharegpt *r, const cop_chat_message *run, size_t count)
{
    size_t bytes = 2 * (count - 1);
    for (size_t i = 0; i < count; i++)
        bytes += run[i].bytes;
    char *text = COP_ARENA_ARRAY(&r->joined, char, bytes), *at = text;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, run[i].text, run[i].bytes);
        at += run[i].bytes;
        if (i + 1 < count)
            at = (char *)memcpy(at, "\n\n", 2) + 2;
    }
    return (cop_chat_message){.role = run->role, .text = text, .bytes = bytes};
}

/* Rules 5 and 6. */
static void join_runs(cop_sharegpt *r, cop_dialogue *d)
{
    cop_chat_message *m = r->messages;
    size_t kept = 0;
    for (size_t i = 0, n; i < d->count; i += n) {
        for (n = 1; i + n < d->count && m[i + n].role == m[i].role;)
            n++;
        m[kept++] = n == 1 ? m[i] : join(r, &m[i], n);
    }
    if (kept && m[kept - 1].role == COP_ROLE_USER)
        kept--;
    d->messages = m;
    d->count = kept;
    d->has_system = kept && m[0].role == COP_ROLE_SYSTEM;
    d->turns = (uint32_t)((kept - d->has_system) / 2);
}

static cop_status find_messages(const cop_json *element, const cop_json **out, cop_error *err)
{
    const char *key = cop_json_get(element, "conversations") ? "conversations" : "messages";
    const cop_json *messages = cop_json_get(element, key);
    if (!messages)
        return cop_fail(err, COP_ERR_CORRUPT, "it has no 'conversations' or 'messages'");
    if (cop_json_kind_of(messages) != COP_JSON_ARRAY)
        return cop_fail(err, COP_ERR_CORRUPT, "'%s' is %s, not an array", key,
                        cop_json_kind_name(cop_json_kind_of(messages)));
    *out = messages;
    return COP_OK;
}

/* A dialogue of no turn is an empty one. */
static cop_status make_dialogue(cop_sharegpt *r, cop_dialogue *d, cop_error *err)
{
    const cop_json *messages = NULL;
    cop_status status = find_messages(r->element, &messages, err);
    if (status != COP_OK)
        return status;
    for (size_t i = 0; i < cop_json_count(messages); i++) {
        cop_chat_message message;
        status = parse_message(messages, i, &message, err);
        if (status != COP_OK)
            return status;
        add_message(r, d, message);
    }
    join_runs(r, d);
    return COP_OK;
}

static cop_status next_dialogue(cop_sharegpt *r, cop_dialogue *d, cop_error *err)
{
    *d = (cop_dialogue){.line = r->line, .number = r->counts.conversations + 1};
    cop_status status = take_element(r, err);
    if (status != COP_OK)
        return status;
    r->counts.conversations++;
    r->counts.bad += !r->element;
    if (!r->element)
        return COP_OK;
    const char *id = cop_json_string(cop_json_get(r->element, "id"), NULL);
    d->id = id ? id : "";
    cop_error why;
    status = make_dialogue(r, d, &why);
    if (status != COP_OK && !r->skip_bad)
        return cop_fail(err, status, "%s:%llu: conversation %llu%s%.64s%s: %s", r->name,
                        (unsigned long long)d->line, (unsigned long long)d->number,
                        d->id[0] ? " ('" : "", d->id, d->id[0] ? "')" : "", why.text);
    r->counts.bad += status != COP_OK;
    r->counts.empty += status == COP_OK && d->turns == 0;
    d->turns = status == COP_OK ? d->turns : 0;
    return COP_OK;
}

cop_status cop_sharegpt_next(cop_sharegpt *r, cop_dialogue *out, bool *found, cop_error *err)
{
    bool more;
    for (;;) {
        cop_json_free(r->element);
        r->element = NULL;
        cop_arena_reset(&r->joined);
        cop_status status = find_element(r, &more, err);
        if (status == COP_OK && !more)
            status = end_reading(r, err);
        cop_dialogue d = {0};
        if (status == COP_OK && more)
            status = next_dialogue(r, &d, err);
        if (status != COP_OK)
            return status;
        if (d.turns || !more) {
            r->found += d.turns > 0;
            *out = d;
            *found = more;
            return COP_OK;
        }
    }
}
