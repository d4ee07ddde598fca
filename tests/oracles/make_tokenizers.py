#!/usr/bin/env python3
"""Makes the small tokenizers in tests/data/tokenizers, and what Hugging Face `tokenizers` says of
them. Run once; needs the package tokenizers (0.23.3 made what is committed).

    make_tokenizers.py OUT_DIR

    qwen-small.json     byte-level BPE, Qwen2's regex, NFC, ChatML's tokens
    llama3-small.json   byte-level BPE, Llama 3's regex, ignore_merges, <|begin_of_text|> in front
    mistral-small.json  BPE on characters with byte fallback, Prepend and Replace, [INST]
    NAME.jsonl          {"text": TEXT, "ids": [..]}, or {"hex": BYTES, ..} for ill-formed text
    chat.jsonl          {"tokenizer": .., "template": .., "messages": [[role, text], ..], "ask": ..,
                         "ids": [..]}

They are trained on sentences below and on this repository's own sources, so training again after
those changed gives other vocabularies, as good as these.
"""
import glob
import json
import os
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,  # noqa: E402
                        pre_tokenizers, processors, trainers)

import tokenizer_corpus  # noqa: E402

SOURCES = os.path.join(os.path.dirname(__file__), "..", "..")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}| ?", r"|\p{N}{1,3}| ?")
VOCABULARY = 1000


def training_text():
    lines = list(tokenizer_corpus.SENTENCES)
    for path in sorted(glob.glob(os.path.join(SOURCES, "src", "base", "*.[ch]"))):
        with open(path, encoding="utf-8") as file:
            lines += file.read().split("\n")
    return lines


def byte_level(regex, special, ignore_merges=False, nfc=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def qwen():
    tokenizer = byte_level(QWEN2, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], nfc=True)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False, special=False),
                          AddedToken("</think>", normalized=False, special=False)])
    return tokenizer


def llama3():
    tokenizer = byte_level(LLAMA3, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                                    "<|end_header_id|>", "<|eot_id|>"], ignore_merges=True)
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      pair="<|begin_of_text|> $A <|begin_of_text|> $B:1",
                                      special_tokens=[("<|begin_of_text|>", begin)])])
    return tokenizer


def mistral():
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    octets = [f"<0x{b:02X}>" for b in range(256)]
    draft = Tokenizer(models.BPE(unk_token="<unk>"))
    draft.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    draft.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, limit_alphabet=120,
        special_tokens=special + octets))
    trained = json.loads(draft.to_str())["model"]
    tokenizer = Tokenizer(models.BPE(
        vocab=trained["vocab"], merges=[tuple(m) for m in trained["merges"]], unk_token="<unk>",
        fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"),
                                                 normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", special.index("<s>"))])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


# ---- Chat templates, as the models' own cards render them ----

CHATS = [
    [("user", "Hello, who are you?")],
    [("system", "You are a helpful assistant."), ("user", "What is 2+2?")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "And now?")],
    [("user", "  indented\n\ntext  "), ("assistant", "\n answer with space \n")],
    [("user", "日本語で答えて"), ("assistant", "はい。"), ("user", "cảm ơn"), ("assistant", "🙂")],
    [("user", "")],
]


def chatml(messages, ask):
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)
    return text + ("<|im_start|>assistant\n" if ask else "")


def llama3_chat(messages, ask):
    def header(role):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n"

    text = "".join(header(role) + content.strip() + "<|eot_id|>" for role, content in messages)
    return "<|begin_of_text|>" + text + (header("assistant") if ask else "")


def mistral_chat(messages, ask):
    """The layout of v0.3, but the system message before the first user message, not the last."""
    text, system = "<s>", ""
    for role, content in messages:
        if role == "system":
            system = content + "\n\n"
        elif role == "user":
            text += f"[INST] {system}{content}[/INST]"
            system = ""
        else:
            text += f" {content.strip()}</s>"
    return text


TEMPLATES = {"chatml": ("qwen-small", chatml), "llama3": ("llama3-small", llama3_chat),
             "mistral": ("mistral-small", mistral_chat)}


def write_chats(out, tokenizers):
    with open(os.path.join(out, "chat.jsonl"), "w", encoding="utf-8") as file:
        for template, (name, render) in TEMPLATES.items():
            for messages in CHATS:
                ask = messages[-1][0] == "user"
                ids = tokenizers[name].encode(render(messages, ask), add_special_tokens=False).ids
                file.write(json.dumps({"tokenizer": name, "template": template,
                                       "messages": messages, "ask": ask, "ids": ids},
                                      ensure_ascii=False, separators=(",", ":")) + "\n")


def write_lines(path, tokenizer):
    with open(path, "w", encoding="utf-8") as file:
        for data in tokenizer_corpus.lines(500, longest=40):
            text = data.decode("utf-8", "replace")
            shown = {"text": text}
            if text.encode() != data or "\0" in text:
                shown = {"hex": data.hex()}
            shown["ids"] = tokenizer.encode(text, add_special_tokens=True).ids
            file.write(json.dumps(shown, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    tokenizers = {"qwen-small": qwen(), "llama3-small": llama3(), "mistral-small": mistral()}
    for name, tokenizer in tokenizers.items():
        with open(os.path.join(out, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(json.loads(tokenizer.to_str()), file, ensure_ascii=False,
                      separators=(",", ":"))
            file.write("\n")
        write_lines(os.path.join(out, name + ".jsonl"), tokenizer)
    write_chats(out, tokenizers)


if __name__ == "__main__":
    main()
