#!/usr/bin/env bash
# coppice and PyTorch by turns on the same sizes. Usage: experiments/pytorch/run.sh [ROUNDS]
# COPPICE: the program (default build/coppice). PYTHON: an interpreter with torch and transformers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
coppice=${COPPICE:-build/coppice} python=${PYTHON:-python3} rounds=${1:-3}

if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
    echo "pytorch/run.sh: $python has no torch or no transformers: pip install torch transformers" >&2
    exit 1
fi
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds"
    "$python" experiments/pytorch/beside.py
    "$coppice" bench prefill --set device.kind=cuda --set model.preset=qwen2.5-0.5b --set bench.tokens=2048
    "$coppice" bench prefill --set device.kind=cuda --set model.preset=llama3-8b --set bench.tokens=8192
done
