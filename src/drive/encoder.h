/* The text side of a model, as the configuration names it: its tokenizer and its chat template. */
#ifndef COP_DRIVE_ENCODER_H
#define COP_DRIVE_ENCODER_H

#include "base/conversation.h"
#include "config/config.h"
#include "model/weights.h"
#include "tokenizer/chat.h"

typedef struct cop_encoder cop_encoder;

/* model.tokenizer, else tokenizer.json in model.path; COP_ERR_INVALID if neither is set. The
 * template is model.chat, else that of the checkpoint's family, else chatml. weights: borrowed
 * during open; the tokenizer's ids must fit their vocabulary. NULL: any vocabulary will do, and
 * there is no family. */
cop_status cop_encoder_open(cop_encoder **out, const cop_config *cfg, const cop_weights *weights,
                            cop_error *err);
/* That the ids of the tokenizer, read from `path`, fit the vocabulary of the weights. */
cop_status cop_encoder_check(const cop_tokenizer *tokenizer, const char *path,
                             const cop_weights *weights, cop_error *err);
void cop_encoder_close(cop_encoder *encoder); /* NULL is legal */

const cop_text_encoder *cop_encoder_ops(const cop_encoder *encoder); /* borrowed */
const char *cop_encoder_path(const cop_encoder *encoder);            /* of the tokenizer */
const char *cop_encoder_template(const cop_encoder *encoder);        /* "chatml", ... */
uint32_t cop_encoder_vocab(const cop_encoder *encoder); /* the tokenizer's highest id + 1 */

#endif
