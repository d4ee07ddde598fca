/* Any bytes as a tokenizer.json, up to the first zero byte, and the rest as a text for it. A refusal
 * is one line; what is accepted encodes the text, or says what token is missing, twice alike, and
 * decodes to well-formed UTF-8. */
#include "fuzz.h"

#include "base/check.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

static void check_refusal(const cop_error *err)
{
    COP_CHECK(err->status == COP_ERR_INVALID || err->status == COP_ERR_UNSUPPORTED);
    COP_CHECK(*err->text != '\0');
    COP_CHECK(strpbrk(err->text, "\r\n") == NULL);
}

static void check_decoding(const cop_tokenizer *t, const cop_tokens *tokens)
{
    cop_decoder decoder;
    cop_decoder_init(&decoder, t, true);
    for (size_t i = 0; i <= tokens->count; i++) {
        char small[64], *room = small;
        size_t n = i < tokens->count
                       ? cop_decoder_push(&decoder, tokens->ids[i], small, sizeof small)
                       : cop_decoder_end(&decoder, small, sizeof small);
        if (n > sizeof small) {
            room = malloc(n);
            COP_CHECK(cop_decoder_push(&decoder, tokens->ids[i], room, n) == n);
        }
        COP_CHECK(cop_utf8_valid((const uint8_t *)room, n) == n);
        if (room != small)
            free(room);
    }
}

static void check_text(cop_tokenizer *t, const char *text, size_t bytes, unsigned flags)
{
    cop_tokens tokens = {0}, again = {0};
    cop_error err = {0};
    cop_status status = cop_tokenizer_encode(t, text, bytes, flags, &tokens, &err);
    COP_CHECK(cop_tokenizer_encode(t, text, bytes, flags, &again, NULL) == status);
    COP_CHECK(tokens.count == again.count);
    for (size_t i = 0; i < tokens.count; i++)
        COP_CHECK(tokens.ids[i] == again.ids[i] && tokens.ids[i] < cop_tokenizer_size(t));
    if (status == COP_OK)
        check_decoding(t, &tokens);
    else
        check_refusal(&err);
    COP_CHECK(status == COP_OK || tokens.count == 0);
    free(tokens.ids);
    free(again.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t json = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : "";
    size_t bytes = zero ? size - json - 1 : 0;
    cop_tokenizer *t = NULL;
    cop_error err = {0};
    if (cop_tokenizer_parse(&t, (const char *)data, json, "fuzz", &err) != COP_OK) {
        COP_CHECK(t == NULL);
        check_refusal(&err);
        return 0;
    }
    check_text(t, text, bytes, 0);
    check_text(t, text, bytes, COP_ENCODE_ADDED | COP_ENCODE_TEMPLATE);
    cop_tokenizer_close(t);
    return 0;
}
