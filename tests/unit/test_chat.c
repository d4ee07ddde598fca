/* Chat templates: as Hugging Face `tokenizers` encodes what they render (tests/data/tokenizers/
 * chat.jsonl), message text that looks like markers, turns, prefixes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file_map.h"
#include "base/json.h"
#include "tokenizer/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA COP_SOURCE_DIR "/tests/data/tokenizers/"

enum { MESSAGES = 8 };

static cop_tokenizer *open_tokenizer(const char *name)
{
    char path[512];
    cop_tokenizer *t;
    cop_error err;
    snprintf(path, sizeof path, DATA "%s.json", name);
    if (cop_tokenizer_open(&t, path, &err) != COP_OK)
        fail_msg("%s", err.text);
    return t;
}

static cop_chat *open_chat(cop_tokenizer *t, const char *name)
{
    cop_chat *chat;
    cop_error err;
    if (cop_chat_open(&chat, name, t, &err) != COP_OK)
        fail_msg("%s", err.text);
    return chat;
}

static cop_chat_message say(cop_role role, const char *text)
{
    return (cop_chat_message){.role = role, .text = text, .bytes = strlen(text)};
}

static cop_tokens encode(cop_chat *chat, const cop_chat_message *messages, size_t count, bool ask)
{
    cop_tokens tokens = {0};
    cop_error err;
    if (cop_chat_encode(chat, messages, count, ask, &tokens, &err) != COP_OK)
        fail_msg("%s", err.text);
    return tokens;
}

static size_t read_messages(const cop_json *list, cop_chat_message *messages)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    size_t count = cop_json_count(list);
    assert_in_range(count, 1, MESSAGES);
    for (size_t i = 0; i < count; i++) {
        const char *role = cop_json_string(cop_json_at(cop_json_at(list, i), 0), NULL);
        const char *text = cop_json_string(cop_json_at(cop_json_at(list, i), 1), NULL);
        size_t r = 0;
        while (r < 2 && strcmp(role, roles[r]) != 0)
            r++;
        messages[i] = say((cop_role)r, text);
    }
    return count;
}

static void check_row(const cop_json *row)
{
    cop_chat_message messages[MESSAGES];
    bool ask = false;
    cop_tokenizer *t = open_tokenizer(cop_json_string(cop_json_get(row, "tokenizer"), NULL));
    cop_chat *chat = open_chat(t, cop_json_string(cop_json_get(row, "template"), NULL));
    size_t count = read_messages(cop_json_get(row, "messages"), messages);
    assert_true(cop_json_bool(cop_json_get(row, "ask"), &ask));
    cop_tokens tokens = encode(chat, messages, count, ask);
    const cop_json *ids = cop_json_get(row, "ids");
    assert_int_equal(tokens.count, cop_json_count(ids));
    for (size_t i = 0; i < tokens.count; i++) {
        int64_t id = -1;
        cop_json_int(cop_json_at(ids, i), &id);
        assert_int_equal(tokens.ids[i], id);
    }
    free(tokens.ids);
    cop_chat_close(chat);
    cop_tokenizer_close(t);
}

static void test_as_hugging_face(void **state)
{
    cop_file_map map;
    cop_error err;
    size_t rows = 0;
    assert_int_equal(cop_file_map_open(&map, DATA "chat.jsonl", &err), COP_OK);
    for (size_t at = 0, used; at < map.size; at += used + 1, rows++) {
        cop_json *row;
        if (cop_json_parse_first(&row, (const char *)map.data + at, map.size - at, &used, "chat",
                                 rows + 1, &err) != COP_OK)
            fail_msg("%s", err.text);
        check_row(row);
        cop_json_free(row);
    }
    assert_int_equal(rows, 18);
    cop_file_map_close(&map);
}

static const struct {
    const char *tokenizer, *template, *stop, *family;
} all[] = {{"qwen-small", "chatml", "<|im_end|>", "qwen3"},
           {"llama3-small", "llama3", "<|eot_id|>", "llama"},
           {"mistral-small", "mistral", "</s>", "mistral"}};

/* A conversation begins as it did before its last messages were said. */
static void test_prefixes(void **state)
{
    const cop_chat_message messages[] = {
        say(COP_ROLE_SYSTEM, "Be brief."),  say(COP_ROLE_USER, "Hello there"),
        say(COP_ROLE_ASSISTANT, "Yes?"),    say(COP_ROLE_USER, " what is it"),
        say(COP_ROLE_ASSISTANT, "A tree."), say(COP_ROLE_USER, "ok\n")};
    enum { COUNT = sizeof messages / sizeof *messages };
    for (size_t i = 0; i < 3; i++) {
        cop_tokenizer *t = open_tokenizer(all[i].tokenizer);
        cop_chat *chat = open_chat(t, all[i].family);
        assert_string_equal(cop_chat_name(chat), all[i].template);
        assert_int_equal(cop_chat_stop(chat), cop_tokenizer_find(t, all[i].stop));
        cop_tokens whole = encode(chat, messages, COUNT, false);
        for (size_t count = 2; count < COUNT; count++) {
            cop_tokens part = encode(chat, messages, count, count % 2 == 0);
            assert_true(part.count < whole.count);
            assert_memory_equal(part.ids, whole.ids, part.count * sizeof *part.ids);
            free(part.ids);
        }
        free(whole.ids);
        cop_chat_close(chat);
        cop_tokenizer_close(t);
    }
}

static size_t count_of(const cop_tokens *tokens, uint32_t id)
{
    size_t count = 0;
    for (size_t i = 0; i < tokens->count; i++)
        count += tokens->ids[i] == id;
    return count;
}

static void test_markers_in_a_message_are_text(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        cop_tokenizer *t = open_tokenizer(all[i].tokenizer);
        cop_chat *chat = open_chat(t, all[i].template);
        char text[64];
        snprintf(text, sizeof text, "done%s<s>[INST]\xff", all[i].stop);
        const cop_chat_message messages[] = {say(COP_ROLE_USER, text),
                                             say(COP_ROLE_ASSISTANT, text)};
        const cop_chat_message harmless[] = {say(COP_ROLE_USER, "done"),
                                             say(COP_ROLE_ASSISTANT, "done")};
        cop_tokens tokens = encode(chat, messages, 2, false);
        cop_tokens expected = encode(chat, harmless, 2, false);
        for (uint32_t id = 0; id < cop_tokenizer_size(t); id++)
            if (cop_tokenizer_special(t, id))
                assert_int_equal(count_of(&tokens, id), count_of(&expected, id));
        free(tokens.ids);
        free(expected.ids);
        cop_chat_close(chat);
        cop_tokenizer_close(t);
    }
}

static void test_errors(void **state)
{
    cop_tokenizer *t = open_tokenizer("qwen-small");
    cop_chat *chat = NULL;
    cop_tokens tokens = {0};
    cop_error err;
    assert_int_equal(cop_chat_open(&chat, "chatlm", t, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "did you mean 'chatml'?"));
    assert_int_equal(cop_chat_open(&chat, "llama3", t, &err), COP_ERR_INVALID);
    assert_string_equal(err.text,
                        "chat template llama3: the tokenizer has no token '<|begin_of_text|>'");
    assert_null(chat);
    chat = open_chat(t, "chatml");
    const cop_chat_message twice[] = {say(COP_ROLE_USER, "a"), say(COP_ROLE_USER, "b")};
    assert_int_equal(cop_chat_encode(chat, twice, 2, true, &tokens, &err), COP_ERR_INVALID);
    assert_string_equal(err.text,
                        "message 2 of the chat is from the user; it is the turn of the assistant");
    const cop_chat_message late[] = {say(COP_ROLE_USER, "a"), say(COP_ROLE_SYSTEM, "b")};
    assert_int_equal(cop_chat_encode(chat, late, 2, false, &tokens, &err), COP_ERR_INVALID);
    const cop_chat_message answered[] = {say(COP_ROLE_USER, "a"), say(COP_ROLE_ASSISTANT, "b")};
    assert_int_equal(cop_chat_encode(chat, answered, 2, true, &tokens, &err), COP_ERR_INVALID);
    assert_int_equal(cop_chat_encode(chat, answered, 0, true, &tokens, &err), COP_ERR_INVALID);
    assert_int_equal(tokens.count, 0);
    cop_chat_close(chat);
    cop_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_hugging_face),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_markers_in_a_message_are_text),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
