/* The text side of a model, as the configuration names it: its tokenizer and its chat template. */
#ifndef COP_DRIVE_TEXT_H
#define COP_DRIVE_TEXT_H

#include "base/conversation.h"
#include "config/config.h"
#include "model/weights.h"
#include "tokenizer/chat.h"

typedef struct cop_text cop_text;

/* model.tokenizer, else tokenizer.json in model.path; COP_ERR_INVALID if neither is set. The
 * template is model.chat, else that of the checkpoint's family, else chatml. weights: borrowed
 * during open; the tokenizer's ids must fit their vocabulary. NULL: any vocabulary will do, and
 * there is no family. */
cop_status cop_text_open(cop_text **out, const cop_config *cfg, const cop_weights *weights,
                         cop_error *err);
void cop_text_close(cop_text *text); /* NULL is legal */

const cop_text_encoder *cop_text_encoder_of(const cop_text *text); /* borrowed */
const char *cop_text_path(const cop_text *text);                   /* of the tokenizer */
const char *cop_text_template(const cop_text *text);               /* "chatml", ... */
uint32_t cop_text_vocab(const cop_text *text); /* the tokenizer's highest id + 1 */

#endif
