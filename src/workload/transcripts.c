/* Dialogues as tokens. All of them are encoded before the run begins, so that the run's front end
 * never computes tokens when a request is due: what is kept is 4 bytes a token and 24 bytes a turn,
 * whatever the number of turns. Each prompt is encoded from the start of its conversation, so n
 * turns cost n / 2 times their text: a template may write a message otherwise when it is the last. */
#include "workload/sharegpt.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* Sequences of two turns, one after the other. */
typedef struct {
    cop_tokens before, now, answer;
} scratch;

static uint32_t common(const cop_tokens *a, const cop_tokens *b)
{
    size_t n = a->count < b->count ? a->count : b->count, i = 0;
    while (i < n && a->ids[i] == b->ids[i])
        i++;
    return (uint32_t)i;
}

static cop_status check_tokens(const cop_tokens *t, uint32_t vocab, cop_error *err)
{
    if (t->count > COP_SHAREGPT_MAX_TOKENS)
        return cop_fail(err, COP_ERR_CORRUPT, "%zu tokens: at most %d are possible", t->count,
                        COP_SHAREGPT_MAX_TOKENS);
    for (size_t i = 0; i < t->count; i++)
        if (t->ids[i] >= vocab)
            return cop_fail(err, COP_ERR_INVALID,
                            "token %u is not in the model's vocabulary of %u: is the tokenizer the "
                            "model's?",
                            t->ids[i], vocab);
    return COP_OK;
}

/* Sequence of the turn into s->now; its lengths into *turn, 0 where there is no token. */
static cop_status encode_turn(const cop_transcripts_options *o, const cop_dialogue *d, uint32_t t,
                              scratch *s, cop_transcript_turn *turn, cop_error *err)
{
    const cop_text_encoder *e = o->encoder;
    size_t question = d->has_system + 2 * (size_t)t;
    const cop_chat_message *answer = &d->messages[question + 1];
    s->now.count = s->answer.count = 0;
    cop_status status = e->chat(e->self, d->messages, question + 1, true, &s->now, err);
    if (status == COP_OK)
        status = e->text(e->self, answer->text, answer->bytes, &s->answer, err);
    size_t prompt = s->now.count, output = s->answer.count;
    if (o->max_output_tokens && output > o->max_output_tokens)
        output = o->max_output_tokens;
    if (status == COP_OK && output) {
        COP_GROW(s->now.ids, s->now.capacity, prompt + output);
        memcpy(s->now.ids + prompt, s->answer.ids, output * sizeof *s->now.ids);
        s->now.count += output;
    }
    if (status == COP_OK)
        status = check_tokens(&s->now, o->vocab, err);
    if (status == COP_OK)
        *turn = (cop_transcript_turn){.prompt_tokens = (uint32_t)prompt,
                                      .output_tokens = (uint32_t)output};
    return status;
}

static void add_turn(cop_transcripts *out, scratch *s, cop_transcript_turn turn)
{
    turn.first = out->token_count;
    turn.kept = common(&s->before, &s->now);
    size_t own = s->now.count - turn.kept;
    COP_GROW(out->tokens, out->tokens_capacity, out->token_count + own);
    if (own)
        memcpy(out->tokens + out->token_count, s->now.ids + turn.kept, own * sizeof *out->tokens);
    out->token_count += own;
    COP_GROW(out->turns, out->turns_capacity, out->turn_count + 1);
    out->turns[out->turn_count++] = turn;
    cop_tokens spare = s->before;
    s->before = s->now;
    s->now = spare;
}

static bool is_full(const cop_transcripts *t, const cop_transcripts_options *o)
{
    return o->limit && t->turn_count >= o->limit;
}

static cop_status add_dialogue(cop_transcripts *out, const cop_transcripts_options *o,
                               const cop_dialogue *d, scratch *s, cop_error *err)
{
    size_t turns_before = out->turn_count, encoded = 0;
    s->before.count = 0;
    for (uint32_t t = 0; t < d->turns && !is_full(out, o); t++) {
        cop_transcript_turn turn;
        cop_status status = encode_turn(o, d, t, s, &turn, err);
        if (status != COP_OK)
            return status;
        encoded += s->now.count;
        if (encoded > COP_SHAREGPT_MAX_ENCODED)
            return cop_fail(err, COP_ERR_CORRUPT,
                            "its first %u of %u turns are %zu tokens, each with all before it: at "
                            "most %d are possible",
                            t + 1, d->turns, encoded, COP_SHAREGPT_MAX_ENCODED);
        if (turn.prompt_tokens && turn.output_tokens)
            add_turn(out, s, turn);
    }
    if (out->turn_count > turns_before) {
        COP_GROW(out->first_turn, out->sessions_capacity, out->session_count + 2);
        out->first_turn[++out->session_count] = out->turn_count;
    }
    return COP_OK;
}

cop_status cop_transcripts_read(cop_transcripts *out, cop_sharegpt *reader,
                                const cop_transcripts_options *o, cop_error *err)
{
    cop_transcripts t = {0};
    scratch s = {0};
    cop_dialogue d;
    bool found = true;
    cop_status status = COP_OK;
    COP_GROW(t.first_turn, t.sessions_capacity, 1);
    t.first_turn[0] = 0;
    while (found && !is_full(&t, o)) {
        status = cop_sharegpt_next(reader, &d, &found, err);
        if (status == COP_OK && found) {
            cop_error why;
            status = add_dialogue(&t, o, &d, &s, &why);
            if (status != COP_OK)
                cop_fail(err, status, "%s:%llu: conversation %llu: %s", cop_sharegpt_name(reader),
                         (unsigned long long)d.line, (unsigned long long)d.number, why.text);
        }
        if (status != COP_OK)
            break;
        t.counts = cop_sharegpt_count(reader);
        if (o->progress)
            o->progress(o->progress_context, t.counts.bytes, cop_sharegpt_bytes(reader));
    }
    if (status == COP_OK && t.turn_count == 0)
        status = cop_fail(err, COP_ERR_CORRUPT, "%s: no turn in it has a token",
                          cop_sharegpt_name(reader));
    free(s.before.ids);
    free(s.now.ids);
    free(s.answer.ids);
    if (status == COP_OK)
        *out = t;
    else
        cop_transcripts_fini(&t);
    return status;
}

void cop_transcripts_fini(cop_transcripts *t)
{
    free(t->turns);
    free(t->first_turn);
    free(t->tokens);
    *t = (cop_transcripts){0};
}

uint32_t cop_transcripts_turns(const cop_transcripts *t, uint64_t session)
{
    COP_CHECK(session < t->session_count);
    return (uint32_t)(t->first_turn[session + 1] - t->first_turn[session]);
}

/* From the last turn back: each gives what no later one has replaced. */
void cop_transcripts_request(const cop_transcripts *t, uint64_t session, uint32_t turn,
                             cop_request *out)
{
    COP_CHECK(turn < cop_transcripts_turns(t, session));
    const cop_transcript_turn *first = &t->turns[t->first_turn[session]], *last = first + turn;
    uint32_t wanted = last->prompt_tokens + last->output_tokens;
    uint32_t *tokens = cop_malloc(wanted * sizeof *tokens);
    *out = (cop_request){.session = session,
                         .turn = turn,
                         .prompt_tokens = last->prompt_tokens,
                         .output_tokens = last->output_tokens,
                         .output_given = true,
                         .tokens = tokens};
    for (const cop_transcript_turn *at = last; wanted; at--) { /* the first keeps nothing */
        COP_CHECK(at >= first);
        if (wanted > at->kept) {
            memcpy(tokens + at->kept, t->tokens + at->first, (wanted - at->kept) * sizeof *tokens);
            wanted = at->kept;
        }
    }
}
