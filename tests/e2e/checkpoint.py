"""A checkpoint that speaks: the qwen2 fixture with a tokenizer whose tokens are bytes. So the test
knows how many tokens a text has, which of them two texts share, and what a chat looks like."""
import json
import os
import unicodedata

END, IM_START, IM_END = 509, 510, 511  # as the fixture's generation_config.json has it
SPECIAL = {"<|endoftext|>": END, "<|im_start|>": IM_START, "<|im_end|>": IM_END}
REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_names():
    """GPT-2's names of the bytes: printable ones are themselves, the others follow at U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    names, more = {}, 0x100
    for byte in range(256):
        names[byte] = chr(byte if byte in plain else more)
        more += byte not in plain
    return names


def tokenizer():
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": REGEX}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for text, number in SPECIAL.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": False,
                  "vocab": {name: byte for byte, name in byte_names().items()}, "merges": []},
    }


def make(source, folder, fixture="qwen2"):
    """The files of a fixture and the tokenizer, in a new folder."""
    os.makedirs(folder)
    origin = os.path.join(source, "tests/data/checkpoints", fixture)
    for name in os.listdir(origin):
        os.symlink(os.path.join(origin, name), os.path.join(folder, name))
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer(), file)
    return folder


def tokens(text):
    return list(unicodedata.normalize("NFC", text).encode())


def chat(messages):
    """ChatML of [(role, text)], up to where the assistant speaks."""
    ids = []
    for role, text in messages:
        ids += [IM_START, *tokens(f"{role}\n"), *tokens(text), IM_END, *tokens("\n")]
    return [*ids, IM_START, *tokens("assistant\n")]


def common(a, b):
    """Length of the common prefix."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n
