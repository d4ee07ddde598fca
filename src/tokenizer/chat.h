/* Chat templates of the model families, built in by name; no Jinja.
 *
 *     chatml    <|im_start|>user\nTEXT<|im_end|>\n ... <|im_start|>assistant\n          Qwen
 *     llama3    <|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nTEXT<|eot_id|> ...
 *     mistral   <s>[INST] TEXT[/INST] ANSWER</s>[INST] ...                            v0.3
 *
 * Text of a message is plain text: a "<|im_end|>" in it does not end the message (Hugging Face's
 * templates would let it). White space around a message is dropped where the published templates
 * drop it: llama3 everywhere, mistral in answers. No template adds a system message, a date or tools
 * of its own. chatml keeps what an earlier answer thought (<think>), which Qwen3's template drops:
 * what was cached stays a prefix.
 *
 * mistral: a vocabulary without [INST] and [/INST] (v0.1) has them as text. A system message goes,
 * with an empty line, before the first message of the user. The templates since v0.3 put it before
 * the last, where it would change every token since the turn before. */
#ifndef COP_TOKENIZER_CHAT_H
#define COP_TOKENIZER_CHAT_H

#include "tokenizer/tokenizer.h"

typedef struct cop_chat cop_chat;

/* name: "chatml", "llama3", "mistral", or a model family ("qwen2", "qwen3", "llama", "mistral").
 * COP_ERR_INVALID: an unknown name (with the nearest), or a vocabulary without its tokens. */
cop_status cop_chat_open(cop_chat **out, const char *name, cop_tokenizer *tokenizer,
                         cop_error *err);
void cop_chat_close(cop_chat *chat);
const char *cop_chat_name(const cop_chat *chat);
uint32_t cop_chat_stop(const cop_chat *chat); /* the token that ends an answer */

/* Appends the tokens of a conversation; `ask`: ends with what makes the assistant speak. Roles must
 * alternate user, assistant, user, ..., after an optional system message; `ask` wants the user's
 * last. COP_ERR_INVALID if they do not; *out is as it was then. The chat borrows the tokenizer. */
cop_status cop_chat_encode(cop_chat *chat, const cop_chat_message *messages, size_t count, bool ask,
                           cop_tokens *out, cop_error *err);

#endif
