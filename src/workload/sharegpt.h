/* Conversations with text, as the ShareGPT files have them. A file is one JSON array
 *
 *     [{"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "..."},
 *                                            {"from": "gpt",   "value": "..."}, ...]}, ...]
 *
 * or JSON lines (one object after the other). Instead of "conversations" of "from" and "value"
 * there can be "messages" of "role" and "content" (OpenAI); other fields are passed over.
 *
 * What becomes of an element, in this order:
 *   1. human, user -> user; gpt, chatgpt, bing, bard, assistant -> assistant; system -> system.
 *      Any other role is an error.
 *   2. A message without text is left out.
 *   3. What the assistant says before the first user message is left out: many conversations of
 *      ShareGPT_V3_unfiltered_cleaned_split.json are pieces that begin with an answer.
 *   4. A system message after the first user message counts as the user's.
 *   5. Messages in a row of one role are joined by an empty line.
 *   6. A last user message without an answer is left out.
 * What remains is [system] user assistant user assistant ... assistant, each pair a turn; if none
 * remains, the conversation is empty: passed over and counted, but no error.
 *
 * (The serving benchmarks of vLLM and SGLang take the first two messages of each conversation as
 * one request, whoever speaks, and leave the rest: they have no later turns, so no reuse inside a
 * conversation. Here all turns are replayed.)
 *
 *     file --mapped--> one element after the other --rules--> dialogue --encoder--> transcripts
 *
 * Errors are COP_ERR_CORRUPT, "FILE:LINE: conversation N ('ID'): what", LINE where the element
 * begins (files on one line exist: hence N, from 1). With skip_bad such conversations are counted
 * and passed over, also those whose text is no JSON, as long as their braces tell where they end. */
#ifndef COP_WORKLOAD_SHAREGPT_H
#define COP_WORKLOAD_SHAREGPT_H

#include "base/conversation.h"
#include "base/request.h"
#include "base/status.h"

enum {
    COP_SHAREGPT_MAX_TOKENS = 1 << 27, /* of a turn, with all before it */
    COP_SHAREGPT_MAX_ENCODED = 1 << 24 /* of all turns of a conversation, each with all before it */
};

/* ---- reading ---------------------------------------------------------------------------- */

typedef struct cop_sharegpt cop_sharegpt;

/* Borrowed from the reader until the next one is asked for. */
typedef struct {
    uint64_t line, number;            /* where it begins; which it is in the file, from 1 */
    const char *id;                   /* "" if it has none */
    const cop_chat_message *messages; /* [count]: [system] user assistant ... assistant */
    size_t count;
    bool has_system;
    uint32_t turns; /* >= 1 */
} cop_dialogue;

typedef struct {
    uint64_t conversations; /* elements looked at: dialogues, bad and empty ones */
    uint64_t bad, empty;
    size_t bytes; /* of the file, looked at so far */
} cop_sharegpt_counts;

/* COP_ERR_INVALID if the file cannot be read. */
cop_status cop_sharegpt_open(cop_sharegpt **out, const char *path, bool skip_bad, cop_error *err);
/* The same of text in memory, borrowed: char[bytes], no terminator needed. */
void cop_sharegpt_open_text(cop_sharegpt **out, const char *name, const char *text, size_t bytes,
                            bool skip_bad);
void cop_sharegpt_close(cop_sharegpt *reader);
/* *found: false at the end of the file. A file without any turn in it is an error there. */
cop_status cop_sharegpt_next(cop_sharegpt *reader, cop_dialogue *out, bool *found, cop_error *err);
const char *cop_sharegpt_name(const cop_sharegpt *reader); /* the path */
cop_sharegpt_counts cop_sharegpt_count(const cop_sharegpt *reader);
size_t cop_sharegpt_bytes(const cop_sharegpt *reader); /* of the whole file */

/* ---- as tokens -------------------------------------------------------------------------- */

/* A turn is kept as what it adds: sequence t is the prompt of turn t and the answer, and it begins
 * with `kept` tokens of sequence t - 1, since the template writes a conversation from its start. */
typedef struct {
    uint64_t first; /* own tokens: tokens[first], ... (prompt + output - kept of them) */
    uint32_t kept;  /* 0 in turn 0 */
    uint32_t prompt_tokens, output_tokens; /* >= 1 */
} cop_transcript_turn;

typedef struct {
    cop_transcript_turn *turns; /* [turn_count], conversation after conversation */
    uint64_t *first_turn;       /* [session_count + 1] */
    uint32_t *tokens;
    size_t turn_count, turns_capacity, session_count, sessions_capacity, token_count,
        tokens_capacity;
    cop_sharegpt_counts counts;
} cop_transcripts;

typedef struct {
    const cop_text_encoder *encoder; /* borrowed */
    uint32_t vocab;                  /* tokens are below */
    uint64_t limit;                  /* turns to take, the last conversation is cut; 0: all */
    uint32_t max_output_tokens;      /* 0: answers are not cut */
    /* Told after every conversation; NULL: nobody is. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context;
} cop_transcripts_options;

/* Turn t: the prompt is chat(messages up to user message t, ask), the answer is text(answer t), cut
 * to max_output_tokens; the prompts after it have the answer whole. A turn with a prompt or an
 * answer of no token is left out. A conversation of too many turns is an error: the work grows with
 * their square. */
cop_status cop_transcripts_read(cop_transcripts *out, cop_sharegpt *reader,
                                const cop_transcripts_options *options, cop_error *err);
void cop_transcripts_fini(cop_transcripts *transcripts);
uint32_t cop_transcripts_turns(const cop_transcripts *transcripts, uint64_t session);
/* Fills all but id, tenant and scheduled_ns; tokens are transferred (cop_malloc). */
void cop_transcripts_request(const cop_transcripts *transcripts, uint64_t session, uint32_t turn,
                             cop_request *out);

#endif
