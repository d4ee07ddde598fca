"""Makes tests/data/checkpoints: small random models as Hugging Face transformers writes them, each
with what transformers computes from it. Run once, with torch and transformers; tests read the
files alone.

    make_checkpoints.py [OUT]

NAME/reference.json holds the prompt, the tokens that greedy decoding appends to it in float32, and
the positions whose logits lie in NAME/reference.f32, f32[positions][vocab]: those of a forward pass
over prompt and answer. The references come from the folder as it was written, so that its
config.json is what transformers understood. Some config.json are rewritten in the words of
transformers 4, in which most models on the hub are described.

Matrices are normal with variance 1 / columns, so that activations keep their size and logits
spread; norms and biases are far from 1 and 0, so that leaving one out shows. A tied embedding is
smaller, or a token would mostly predict itself. Of several seeds the one is taken whose answer has
the most different tokens, among those with clear steps: the gap between the two greatest logits,
relative to the greatest, is what an implementation's error must stay below.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

PROMPT, ANSWER, SEEDS, LEAST_GAP = 96, 64, 32, 2e-3
POSITIONS = [0, 1, 15, 16, 47, 80, 95, 96, 97, 111, 128, 158]
SIZES = {"num_hidden_layers": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}

# name: config, dtype, whether in the words of transformers 4, greatest shard, eos of generation
FIXTURES = {
    "qwen2": (
        Qwen2Config(
            **SIZES, vocab_size=512, hidden_size=128, intermediate_size=192, num_attention_heads=2,
            num_key_value_heads=1, tie_word_embeddings=True, eos_token_id=511,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        torch.bfloat16, True, "1GB", [511, 509]),
    "qwen2-untied": (
        Qwen2Config(
            **SIZES, vocab_size=256, hidden_size=64, intermediate_size=64, num_attention_heads=2,
            num_key_value_heads=1, head_dim=64, tie_word_embeddings=False, eos_token_id=255,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        torch.float32, False, "150KB", 255),
    "qwen3": (
        Qwen3Config(
            **SIZES, vocab_size=512, hidden_size=64, intermediate_size=128, num_attention_heads=4,
            num_key_value_heads=2, head_dim=64, tie_word_embeddings=True, eos_token_id=510,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        torch.bfloat16, False, "1GB", [510, 508]),
    "llama3": (
        LlamaConfig(
            **SIZES, vocab_size=515, hidden_size=128, intermediate_size=128, num_attention_heads=2,
            num_key_value_heads=1, tie_word_embeddings=False, bos_token_id=512, eos_token_id=514,
            rope_parameters={"rope_theta": 500000.0, **LLAMA3}),
        torch.float16, True, "1GB", [513, 514]),
    "mistral": (
        MistralConfig(
            **SIZES, vocab_size=512, hidden_size=64, intermediate_size=128, num_attention_heads=4,
            num_key_value_heads=1, head_dim=128, sliding_window=None, tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        torch.bfloat16, False, "1GB", None),
}


def randomise(model):
    tied = model.config.tie_word_embeddings
    for name, p in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(p, 1.0, 0.25)
        elif name.endswith("bias"):
            torch.nn.init.normal_(p, 0.0, 0.25)
        elif "embed_tokens" in name:
            torch.nn.init.normal_(p, 0.0, 0.25 * p.shape[1] ** -0.5 if tied else 0.5)
        else:
            torch.nn.init.normal_(p, 0.0, p.shape[1] ** -0.5)


def words_of_transformers_4(config):
    """What transformers 4 wrote, and the hub holds, instead of rope_parameters and dtype."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    config["transformers_version"] = "4.43.1"
    if config["model_type"] == "qwen2":
        config.update(sliding_window=32768, use_sliding_window=False, max_window_layers=2)
    if config["model_type"] == "llama":
        del config["head_dim"]
        config.update(pretraining_tp=1, attention_bias=False, mlp_bias=False)


def write(folder, fixture, seed):
    config, dtype, old_words, shard, stops = fixture
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomise(model)
    model.generation_config.eos_token_id = stops
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    if old_words:
        path = folder / "config.json"
        text = json.loads(path.read_text(encoding="utf-8"))
        words_of_transformers_4(text)
        path.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def reference(folder, seed):
    """Returns the prompt, the answer, logits of every position, and the least gap of its steps."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    torch.manual_seed(1000 + seed)
    prompt = torch.randint(0, model.config.vocab_size, (1, PROMPT))
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                max_new_tokens=ANSWER)
        logits = model(tokens).logits[0]
    steps = logits[PROMPT - 1 : -1]
    assert tokens.shape[1] == PROMPT + ANSWER
    assert torch.equal(steps.argmax(dim=1), tokens[0, PROMPT:])
    top = steps.topk(2, dim=1).values
    gap = ((top[:, 0] - top[:, 1]) / logits.abs().max()).min().item()
    return tokens[0, :PROMPT].tolist(), tokens[0, PROMPT:].tolist(), logits, gap


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "data" / "checkpoints"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    torch.set_num_threads(1)  # one order of every sum
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name, fixture in FIXTURES.items():
        different = {}
        for seed in range(SEEDS):
            write(out / name, fixture, seed)
            _, answer, _, gap = reference(out / name, seed)
            different[seed] = len(set(answer)) if gap > LEAST_GAP else 0
        seed = max(different, key=different.get)
        write(out / name, fixture, seed)
        prompt, answer, logits, gap = reference(out / name, seed)
        assert gap > LEAST_GAP, (name, gap)
        rows = logits[POSITIONS].numpy().astype("<f4")
        rows.tofile(out / name / "reference.f32")
        text = {"transformers": transformers.__version__, "torch": torch.__version__, "seed": seed,
                "prompt": prompt, "greedy": answer, "positions": POSITIONS}
        (out / name / "reference.json").write_text(json.dumps(text) + "\n", encoding="utf-8")
        print(f"{name}: seed {seed}, greatest logit {logits.abs().max():.3g}, least gap {gap:.3g} "
              f"of it, {len(set(answer))} different tokens")
    total = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"{total} bytes")
    assert total < 3_000_000


if __name__ == "__main__":
    main()
