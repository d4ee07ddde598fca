#!/usr/bin/env python3
"""What PyTorch takes for the same work: TTFT of transformers (BF16, SDPA), and its flash attention.

Prints one line each, medians in ms. Weights are random: the time does not depend on them."""
import argparse
import statistics
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, Qwen2Config


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def median_ms(work, device, repeats):
    for _ in range(3):
        work()
    synchronise(device)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        synchronise(device)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def qwen_config(layers):
    return Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=layers,
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768,
        rope_theta=1e6, tie_word_embeddings=True)


def ttft_ms(device, tokens, layers, repeats):
    """From token ids on the host to the first generated id on the host; KV kept, as serving does."""
    model = AutoModelForCausalLM.from_config(
        qwen_config(layers), dtype=torch.bfloat16, attn_implementation="sdpa").to(device).eval()
    prompt = torch.randint(0, 151936, (1, tokens))

    @torch.inference_mode()
    def first_token():
        out = model(prompt.to(device), use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())

    return median_ms(first_token, device, repeats)


def attention_ms(device, tokens, repeats):
    q = torch.randn(1, 32, tokens, 128, dtype=torch.bfloat16, device=device)
    k, v = (torch.randn(1, 8, tokens, 128, dtype=torch.bfloat16, device=device) for _ in range(2))
    backend = SDPBackend.FLASH_ATTENTION if device == "cuda" else SDPBackend.MATH

    @torch.inference_mode()
    def attend():
        with sdpa_kernel(backend):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    return median_ms(attend, device, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tokens", type=int, default=2048, help="prompt of the model")
    parser.add_argument("--layers", type=int, default=24, help="fewer for a quick look")
    parser.add_argument("--attention-tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device: --device cpu runs the same code, slowly")
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    print(f"pytorch {torch.__version__}, {name}")
    ttft = ttft_ms(args.device, args.tokens, args.layers, args.repeats)
    print(f"transformers TTFT, qwen2.5-0.5b, {args.layers} layers, {args.tokens} tokens: {ttft:.3f} ms")
    attention = attention_ms(args.device, args.attention_tokens, args.repeats)
    tokens = args.attention_tokens
    tflops = 4 * 32 * 128 * tokens * (tokens + 1) / 2 / attention / 1e9
    print(f"SDPA, 32/8 heads of 128, causal, {tokens} tokens: {attention:.3f} ms, {tflops:.1f} TFLOP/s")


if __name__ == "__main__":
    main()
