#!/usr/bin/env python3
"""A corpus of varied lines, and its tokens against Hugging Face `tokenizers`.

    tokenizer_corpus.py compare ENCODE_LINES TOKENIZER.json   with the package: every line
    tokenizer_corpus.py expect TOKENIZER.json DIGESTS         with the package: writes the digests
    tokenizer_corpus.py check ENCODE_LINES TOKENIZER.json DIGESTS   without: 100 lines a digest

The corpus is made anew each time, the same bytes with any Python: code, prose in many scripts, emoji
sequences, combining marks, control characters, digits, white space, what looks like special tokens,
random code points, ill-formed UTF-8. Random code points are those of Unicode 10, and no marks among
them are newer than Unicode 9: what the engines' later Unicode versions disagree on is no matter of
tokenization (src/tokenizer/regex.h).

A digest is the start of the SHA-256 of 100 lines of ids and what they decode to, ill-formed input
being U+FFFD for each maximal subpart, as Python's errors="replace" has it.
"""
import hashlib
import os
import struct
import subprocess
import sys

LINES = 24000
PER_DIGEST = 100

SENTENCES = """\
The quick brown fox jumps over the lazy dog, doesn't it? I'll say it's 42 times better; we've seen.
A cached prompt prefix is the stump; only the new shoots are computed.  Two spaces, then three   here.
HELLO WORLD'S END. THEY'RE HERE, I'M THERE, YOU'D BETTER, WE'LL SEE. naïve café Ångström résumé
def match(self, tokens): return [t for t in tokens if t != 0]  # a comment, 100% of 3.14159e-10
for (size_t i = 0; i < count; i++) { sum += a[i] * b[i]; } /* the usual loop */ return x->y[0]++;
#include <stdio.h>\tint main(void) { printf("%s: %d\\n", name, 0x7fffffff); }
{"key": [1, 2.5, null, true], "nested": {"a\\u00e9": "b"}} SELECT * FROM t WHERE id = 12345;
https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\Windows\\System32 ~/.config/x-1.2.3.tar.gz
我们在这里测试分词器。今天天气很好，我想去公园散步。人工智能正在改变世界！
吾輩は猫である。名前はまだ無い。カタカナとひらがなを混ぜて、ＡＢＣ１２３も書く。
한국어 문장을 토큰화합니다. 오늘은 날씨가 좋네요! 각 글자를 봅니다.
Xin chào thế giới, tôi đang học tiếng Việt. Đường phố Hà Nội rất đông người vào buổi sáng.
Привет, мир! Это предложение на русском языке, съешь ещё этих мягких французских булок.
Γειά σου Κόσμε, αυτή είναι μια πρόταση στα ελληνικά. Ὦ ἄνδρες Ἀθηναῖοι
مرحبا بالعالم، هذه جملة باللغة العربية للاختبار. العَرَبِيَّةُ ١٢٣٤٥
שלום עולם, זהו משפט בעברית לבדיקה. בְּרֵאשִׁית בָּרָא אֱלֹהִים
नमस्ते दुनिया, यह हिंदी में एक वाक्य है। क़ख़ग़ज़ड़ढ़ १२३४५
สวัสดีชาวโลก นี่คือประโยคภาษาไทยสำหรับการทดสอบ ๑๒๓
Merhaba dünya, İstanbul'da ışıklar. Łódź, Žižkov, Øresund, Straße, ſhort, Kelvin K Å
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∑∫∂√∞≠≈≤≥ ℵ₀ x² + y³ ½ ⅷ ① 𝔸𝒷𝓒 𝟙𝟚𝟛
👩‍👩‍👧‍👦 👍🏽 🇩🇪🇯🇵 🏳️‍🌈 ❤️ 🧑🏿‍🚀 emoji 😀😃😄 1️⃣ ☃ ✓ ★
""".splitlines()

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<s>", "</s>",
           "[INST]", "[/INST]", "<unk>", "<|begin_of_text|>", "<|eot_id|>", "<|im_start|", "|im_end|>",
           "<|IM_START|>", "<|", "|>", "<0x0A>", "<|start_header_id|>", "<tool_call>", "▁", "Ġ"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2028", "\u200b",
          "\u2009", "\x0b", "\x0c", "\x85", "\u180e", "\ufeff", "\u200d"]
MARKS = [0x300, 0x301, 0x302, 0x303, 0x304, 0x306, 0x307, 0x308, 0x309, 0x30a, 0x30b, 0x30c, 0x31b,
         0x323, 0x324, 0x327, 0x328, 0x32d, 0x330, 0x331, 0x338, 0x342, 0x345, 0x5b0, 0x5b4, 0x5bc,
         0x64b, 0x651, 0x653, 0x654, 0x670, 0x93c, 0x94d, 0x9be, 0x9d7, 0xe38, 0xe48, 0xfb7, 0x20d0,
         0x20e3, 0x3099, 0x309a, 0xfe0f, 0x1d165]
# Code points by range, taken from blocks that Unicode 10 had filled.
RANGES = [(0x20, 0x7e), (0xa0, 0x17f), (0x180, 0x24f), (0x250, 0x2ff), (0x370, 0x377),
          (0x386, 0x3ff), (0x400, 0x481), (0x48a, 0x52f), (0x5d0, 0x5ea), (0x620, 0x64a),
          (0x660, 0x6d5), (0x904, 0x939), (0x958, 0x961), (0xe01, 0xe30), (0x10d0, 0x10f0),
          (0x1100, 0x11ff), (0x13a0, 0x13ef), (0x1e00, 0x1eff), (0x1f00, 0x1f15), (0x2010, 0x205e),
          (0x2070, 0x208e), (0x2100, 0x218b), (0x2190, 0x23fe), (0x2460, 0x2b73), (0x3041, 0x3096),
          (0x30a1, 0x30ff), (0x3131, 0x318e), (0x3200, 0x32fe), (0x3400, 0x4db5), (0x4e00, 0x9fea),
          (0xac00, 0xd7a3), (0xe000, 0xe0ff), (0xf900, 0xfa6d), (0xfb1d, 0xfb36), (0xff01, 0xffdc),
          (0x10330, 0x1034a), (0x1d400, 0x1d454), (0x1d7ce, 0x1d7ff), (0x1f300, 0x1f64f),
          (0x20000, 0x2a6d6), (0x2f800, 0x2fa1d), (0xe0020, 0xe007f), (0x10fff0, 0x10ffff)]
ILL_FORMED = [b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\x80\x80",
              b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xc3", b"\xf8\x88\x80\x80\x80", b"\xf0\x90"]


class Random:
    """splitmix64: the same numbers wherever it runs."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def choice(self, items):
        return items[self.below(len(items))]


def code_point(rng):
    low, high = rng.choice(RANGES)
    return chr(low + rng.below(high - low + 1))


def excerpt(rng):
    """A part of a sentence: it may begin and end within a word or a cluster."""
    sentence = rng.choice(SENTENCES)
    start = rng.below(len(sentence))
    return sentence[start:start + 1 + rng.below(30)]


def marked(rng):
    base = rng.choice(["a", "e", "o", "u", "A", "s", "ά", "क", "か", "각", "ệ", "ﬁ", "Å", " ", "1", "ب"])
    return base + "".join(chr(rng.choice(MARKS)) for _ in range(1 + rng.below(4)))


def jamo(rng):
    return (chr(0x1100 + rng.below(0x60)) + chr(0x1161 + rng.below(0x15)) +
            (chr(0x11a7 + rng.below(0x1c)) if rng.below(2) else ""))


def emoji(rng):
    parts = ["👩", "👨", "👧", "🏽", "🏿", "\u200d", "\ufe0f", "🇩", "🇪", "❤", "🚀", "1", "\u20e3"]
    return "".join(rng.choice(parts) for _ in range(1 + rng.below(5)))


def pieces(rng):
    kind = rng.below(16)
    if kind < 5:
        return excerpt(rng)
    if kind == 5:
        return "".join(code_point(rng) for _ in range(1 + rng.below(6)))
    if kind == 6:
        return marked(rng)
    if kind == 7:
        return emoji(rng)
    if kind == 8:
        return rng.choice(SPECIAL)
    if kind == 9:
        return "".join(rng.choice(SPACES) for _ in range(1 + rng.below(5)))
    if kind == 10:
        return "".join(chr(0x30 + rng.below(10)) for _ in range(1 + rng.below(25)))
    if kind == 11:
        return chr(rng.below(0x20)) if rng.below(2) else chr(0x7f + rng.below(0x21))
    if kind == 12:
        return jamo(rng)
    if kind == 13:
        return rng.choice("'\"’") + rng.choice(["s", "S", "t", "re", "RE", "ve", "m", "LL", "d", "ſ", "x"])
    if kind == 14:
        return rng.choice("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~") * (1 + rng.below(8))
    return rng.choice(["a", " ", "\n", "=", "の", "ー"]) * (1 + rng.below(60))


def line(rng, longest):
    text, wanted = b"", 1 + rng.below(longest)
    ill = rng.below(12) == 0
    while len(text) < wanted:
        text += pieces(rng).encode()
        if rng.below(3) == 0:
            text += b" "
        if ill and rng.below(3) == 0:
            text = text[:len(text) - rng.below(3)] + rng.choice(ILL_FORMED)
    return text


def lines(count, longest=160, seed=2024):
    rng = Random(seed)
    fixed = [b"", b" ", b"\n", b"\0", b"\n\n\n ", b" \n \n"] + [s.encode() for s in SENTENCES]
    return (fixed + [line(rng, longest) for _ in range(count)])[:count]


def ours(program, tokenizer, corpus):
    """What the program says, a line for each line."""
    records = b"".join(struct.pack("=I", len(data)) + data for data in corpus)
    run = subprocess.run([program, tokenizer, "added"], input=records, stdout=subprocess.PIPE,
                         check=True)
    return run.stdout.decode().split("\n")[:-1]


def theirs(path, corpus):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    for data in corpus:
        ids = tokenizer.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        yield " ".join(map(str, ids)) + "\t" + decoded.encode().hex()


def digests(answers):
    for start in range(0, len(answers), PER_DIGEST):
        text = "\n".join(answers[start:start + PER_DIGEST])
        yield hashlib.sha256(text.encode()).hexdigest()[:16]


def compare(program, path):
    corpus = lines(LINES)
    different = 0
    for data, mine, other in zip(corpus, ours(program, path, corpus), theirs(path, corpus)):
        if mine != other:
            different += 1
            if different <= 10:
                print(f"{data!r}\n  ours   {mine}\n  theirs {other}")
    print(f"{path}: {len(corpus)} lines, {sum(map(len, corpus))} bytes, {different} differ")
    return 1 if different else 0


def expect(path, digest_path):
    with open(digest_path, "w", encoding="ascii") as file:
        file.writelines(d + "\n" for d in digests(list(theirs(path, lines(LINES)))))
    return 0


def check(program, path, digest_path):
    if not os.path.exists(path):
        print(f"skipped: {path} is missing")
        return 77
    corpus = lines(LINES)
    answers = ours(program, path, corpus)
    assert len(answers) == len(corpus), f"{len(answers)} answers to {len(corpus)} lines"
    with open(digest_path, encoding="ascii") as file:
        expected = file.read().split()
    mine = list(digests(answers))
    assert len(mine) == len(expected) >= 200, f"{len(mine)} digests, {len(expected)} expected"
    wrong = [i for i, pair in enumerate(zip(mine, expected)) if pair[0] != pair[1]]
    for i in wrong[:5]:
        print(f"lines {i * PER_DIGEST} to {(i + 1) * PER_DIGEST - 1} are not as expected")
    print(f"{len(corpus)} lines, {len(wrong)} of {len(mine)} digests differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    commands = {"compare": compare, "expect": expect, "check": check}
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
