/* Writes the corpus of fuzz_message anew, after a change of message.h:
 *
 *     message_corpus tests/fuzz/corpus/message
 *
 * A file for each kind, one with all of them, and some whose heads or counts lie ("bad_..."). */
#include "base/check.h"
#include "message_samples.h"

#include <stdio.h>

static void write_file(const char *folder, const char *name, cop_buffer *frame)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    COP_CHECK(out && fwrite(frame->data, 1, frame->size, out) == frame->size);
    fclose(out);
    frame->size = 0;
}

static void lie(cop_buffer *frame, size_t offset, uint32_t value)
{
    memcpy(frame->data + offset, &value, sizeof value);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: message_corpus FOLDER\n");
        return 2;
    }
    cop_buffer frame = {0};
    for (cop_message_kind kind = COP_SAY_SUBMIT; kind <= COP_SAY_GAUGES; kind++) {
        char name[64];
        snprintf(name, sizeof name, "%02u_%s", (unsigned)kind, cop_message_name(kind));
        for (char *c = name; *c; c++)
            *c = *c == ' ' ? '_' : *c;
        say_sample(&frame, kind, 2);
        write_file(argv[1], name, &frame);
    }
    for (cop_message_kind kind = COP_SAY_SUBMIT; kind <= COP_SAY_GAUGES; kind++)
        say_sample(&frame, kind, 1);
    write_file(argv[1], "all", &frame);
    say_sample(&frame, COP_SAY_OFFER, 0);
    write_file(argv[1], "offer_of_nothing", &frame);

    say_sample(&frame, COP_SAY_STEP, 0);
    lie(&frame, 4, UINT32_MAX);
    write_file(argv[1], "bad_length", &frame);
    say_sample(&frame, COP_SAY_INSERTED, 2);
    lie(&frame, 8 + offsetof(cop_say_blocks, count), (1U << 29) + 2);
    write_file(argv[1], "bad_count", &frame);
    say_sample(&frame, COP_SAY_STOP, 0);
    lie(&frame, 0, 99);
    write_file(argv[1], "bad_kind", &frame);
    cop_buffer_fini(&frame);
    return 0;
}
