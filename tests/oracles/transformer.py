"""The transformer of src/model/geometry.h in float64, beside the device's logits.

    transformer.py DUMP_LOGITS PRESET SEED ISA PRECISION WEIGHTS TOKENS OUT

Shares nothing with the C sources but the formulas in geometry.h and weights.h. The weights are
made again from the seed, bit for bit; everything after them is float64, without rounding. WEIGHTS
f16 and f32 are those of typed_weights.h: exact in float32 mode; bf16 mode rounds the matrices.
With int8 weights every output of a matrix is rounded to multiples of its greatest weight / 127; the
embedding, also of tied models, is not. The rounding is part of what is computed here too, so the
bounds stay what they are.

float32 mode must agree to 1e-4 of the greatest logit. In bf16 mode the device rounds activations
to 8 significant bits: an error anywhere up to 2^-8 of the power of two below a value, relative to
which, for values m 2^e whose m are spread as 1 / m over [1, 2), it is of RMS r = 2^-8 / sqrt(3) *
sqrt(3 / (8 ln 2)) = 0.74 * 2^-8 / sqrt(3). On the way to a logit a layer has 8 roundings in a row
or side by side (normalised input, q, k, probabilities, v, attention's output, normalised input
again, SwiGLU's output), and one more stands before the head. Independent errors add as squares:
r sqrt(8 layers + 1), if each reached the residual stream at full weight, which is the worst case of
this sum as every layer adds to what is there. The bound is 2^-8 / sqrt(3) * sqrt(8 layers + 1),
1.36 times as much: that stands for what the sum leaves out, as q and k act through an exponential,
and SwiGLU multiplies two values with errors. It is on the RMS of the error relative to the RMS of
the logits. Measured: 0.5 to 0.85 of it.
"""

import json
import subprocess
import sys

SKIPPED = 77

try:
    import numpy as np
except ImportError:
    print("skipped: this python has no numpy")
    sys.exit(SKIPPED)

EMBED, HEAD, FINAL_NORM, NORM1, Q, K, V, Q_BIAS, K_BIAS, V_BIAS, O, NORM2, GATE, UP, DOWN, Q_NORM, K_NORM = range(17)


def splitmix64(x):
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def to_bf16(x):
    bits = x.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


class Weights:
    """Tensors as the device computes with them."""

    def __init__(self, seed, kind, precision):
        self.seed, self.kind, self.precision = seed, kind, precision

    def __call__(self, layer, tensor, rows, columns, tied=False):
        w = seeded(self.seed, layer, EMBED if tied else tensor, rows, columns)
        if self.kind == "int8" and columns > 1 and tensor != EMBED:
            return to_int8(w.astype(np.float32))
        if self.kind in ("f16", "f32"):
            w = w.astype(np.float32) * np.float32(1 + 2.0**-9 + 2.0**-20)
            w = w.astype(np.float16) if self.kind == "f16" else w
            w = to_bf16(w) if self.precision == "bf16" and columns > 1 else w
        return w.astype(np.float64)


def to_int8(w):
    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    return np.rint(w / scale).astype(np.float64) * scale.astype(np.float64)


def seeded(seed, layer, tensor, rows, columns):
    key = splitmix64(seed ^ splitmix64(layer * 32 + tensor))
    h = np.arange(rows * columns, dtype=np.uint32) + np.uint32(key & 0xFFFFFFFF)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h += np.uint32(key >> 32)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    if tensor in (FINAL_NORM, NORM1, NORM2, Q_NORM, K_NORM):
        base, shift, scale = 1 << 22, 12, np.float32(2.0**-22)
    elif tensor in (Q_BIAS, K_BIAS, V_BIAS):
        base, shift, scale = 0, 8, np.float32(2.0**-27)
    else:
        base, shift, scale = 0, 8, np.float32(np.sqrt(3.0 / columns) * 2.0**-23)
    number = (np.int32(base) + (h.view(np.int32) >> np.int32(shift))).astype(np.float32)
    return to_bf16(number * scale).reshape(rows, columns)


def rmsnorm(x, gain, epsilon):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * gain[:, 0]


def frequencies(m):
    """Radians per position; Llama 3 stretches long waves by `factor`, keeps short ones, and goes
    from one to the other with the number of turns in the original context."""
    half = m["head_dim"] // 2
    f = m["rope_theta"] ** (-np.arange(half) / half)
    factor, low, high, context = m["rope_scaling"]
    if factor:
        turns = context / (2 * np.pi / f)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        f = f * kept + f / factor * (1 - kept)
    return f


def rope(x, frequency):
    """x: [token][head][head_dim]; rotates halves, as Qwen2 and Llama do."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * frequency
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(q, k, v):
    """q: [n][q_heads][d], k and v: [n][kv_heads][d]."""
    n, heads, d = q.shape
    group = heads // k.shape[1]
    hidden = np.triu(np.ones((n, n), dtype=bool), 1)
    out = np.empty_like(q)
    for h in range(heads):
        scores = q[:, h] @ k[:, h // group].T / np.sqrt(d)
        scores[hidden] = -np.inf
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, h] = p / p.sum(axis=1, keepdims=True) @ v[:, h // group]
    return out.reshape(n, heads * d)


def forward(m, weights):
    hidden, ffn, d = m["hidden"], m["ffn"], m["head_dim"]
    q_size, kv_size, n = m["q_heads"] * d, m["kv_heads"] * d, len(m["tokens"])
    epsilon, frequency = float(np.float32(m["rms_epsilon"])), frequencies(m)
    embed = weights(0, EMBED, m["vocab"], hidden)
    x = embed[m["tokens"]]
    for i in range(m["layers"]):

        def linear(y, tensor, rows, columns, bias=None):
            out = y @ weights(i, tensor, rows, columns).T
            return out + weights(i, bias, rows, 1)[:, 0] if bias and m["qkv_bias"] else out

        def heads(y, tensor, bias, norm, rows):
            out = linear(y, tensor, rows, hidden, bias).reshape(n, -1, d)
            return rmsnorm(out, weights(i, norm, d, 1), epsilon) if norm and m["qk_norm"] else out

        h = rmsnorm(x, weights(i, NORM1, hidden, 1), epsilon)
        q = heads(h, Q, Q_BIAS, Q_NORM, q_size)
        k = heads(h, K, K_BIAS, K_NORM, kv_size)
        v = heads(h, V, V_BIAS, None, kv_size)
        x = x + linear(attention(rope(q, frequency), rope(k, frequency), v), O, hidden, q_size)
        h = rmsnorm(x, weights(i, NORM2, hidden, 1), epsilon)
        gate, up = linear(h, GATE, ffn, hidden), linear(h, UP, ffn, hidden)
        x = x + linear(gate / (1 + np.exp(-gate)) * up, DOWN, hidden, ffn)
    head = weights(0, HEAD, m["vocab"], hidden, m["tied_embeddings"])
    return rmsnorm(x, weights(0, FINAL_NORM, hidden, 1), epsilon) @ head.T


def main():
    program, precision, kind, out = sys.argv[1], sys.argv[5], sys.argv[6], sys.argv[8]
    status = subprocess.run([program] + sys.argv[2:], check=False).returncode
    if status:
        print("skipped: this machine lacks", sys.argv[4]) if status == SKIPPED else None
        sys.exit(status)
    with open(out + ".json", encoding="utf-8") as f:
        m = json.load(f)
    n = len(m["tokens"])
    got = np.fromfile(out + ".f32", dtype=np.float32).reshape(-1, m["vocab"]).astype(np.float64)
    want = forward(m, Weights(m["seed"], kind, precision))[n // 2 - 1 :]
    assert got.shape == want.shape, (got.shape, want.shape)
    greatest = np.abs(got - want).max() / np.abs(want).max()
    rms = np.sqrt(((got - want) ** 2).mean() / (want**2).mean())
    bound = 2.0**-8 / np.sqrt(3) * np.sqrt(8 * m["layers"] + 1)
    print(f"{m['name']}, {m['device']}, weights {kind}, {n} tokens: max error {greatest:.3g} of the greatest logit, "
          f"rms {rms:.3g} of the rms logit; bounds: "
          + ("max 1e-4" if precision == "float32" else f"rms {bound:.3g}"))
    sys.exit(0 if (greatest <= 1e-4 if precision == "float32" else rms <= bound) else 1)


if __name__ == "__main__":
    main()
