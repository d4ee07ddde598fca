/* Tokenizes what a test feeds it: for each record (u32 bytes, then the bytes) on standard input, a
 * line with the ids, a tab, and what they decode to in hexadecimal.
 *
 *     encode_lines TOKENIZER.json [plain | added | template] < RECORDS
 *
 * added (the default): added tokens in the text are tokens; template: with the post-processor's. */
#include "base/alloc.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_decoded(const cop_tokenizer *t, const cop_tokens *tokens)
{
    cop_decoder decoder;
    static char *room;
    static size_t capacity;
    COP_GROW(room, capacity, 64);
    cop_decoder_init(&decoder, t, true);
    for (size_t i = 0; i <= tokens->count; i++) {
        size_t n = i < tokens->count
                       ? cop_decoder_push(&decoder, tokens->ids[i], room, capacity)
                       : cop_decoder_end(&decoder, room, capacity);
        if (n > capacity) {
            COP_GROW(room, capacity, n);
            n = cop_decoder_push(&decoder, tokens->ids[i], room, capacity);
        }
        for (size_t b = 0; b < n; b++)
            printf("%02x", (unsigned char)room[b]);
    }
}

static int encode_all(cop_tokenizer *t, unsigned flags)
{
    cop_error err;
    uint32_t bytes;
    char *text = NULL;
    size_t capacity = 0;
    cop_tokens tokens = {0};
    while (fread(&bytes, sizeof bytes, 1, stdin) == 1) {
        COP_GROW(text, capacity, (size_t)bytes + 1);
        if (bytes && fread(text, bytes, 1, stdin) != 1)
            return 2;
        tokens.count = 0;
        if (cop_tokenizer_encode(t, text, bytes, flags, &tokens, &err) != COP_OK) {
            fprintf(stderr, "%s\n", err.text);
            return 2;
        }
        for (size_t i = 0; i < tokens.count; i++)
            printf(i ? " %u" : "%u", tokens.ids[i]);
        putchar('\t');
        print_decoded(t, &tokens);
        putchar('\n');
    }
    free(text);
    free(tokens.ids);
    return 0;
}

int main(int argc, char **argv)
{
    cop_tokenizer *t;
    cop_error err;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: encode_lines TOKENIZER.json [plain | added | template]\n");
        return 2;
    }
    unsigned flags = COP_ENCODE_ADDED;
    if (argc == 3 && strcmp(argv[2], "plain") == 0)
        flags = 0;
    else if (argc == 3 && strcmp(argv[2], "template") == 0)
        flags |= COP_ENCODE_TEMPLATE;
    if (cop_tokenizer_open(&t, argv[1], &err) != COP_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    int result = encode_all(t, flags);
    cop_tokenizer_close(t);
    return result;
}
