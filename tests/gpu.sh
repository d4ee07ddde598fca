#!/usr/bin/env bash
# Everything that needs a GPU, in one call: builds for the GPU that is here, runs the rings `cuda` and
# `nccl`, compute-sanitizer on the kernels, and the benches; prints one table at the end, each figure
# beside what it should reach. The logs and the table stay in the output folder.
#
# Usage: tests/gpu.sh [-o FOLDER] [--build FOLDER] [--skip-sanitizer] [-- CMAKE ARGUMENTS]
#   -o FOLDER        where logs and table.md go (default build-gpu/results)
#   --build FOLDER   build folder (default build-gpu)
# COPPICE_PYTHON_TORCH: an interpreter with torch and transformers (default python3), for the
# comparison with PyTorch. Without mpirun the parts with several ranks are left out, and said so.
# shellcheck disable=SC2016 # what is in single quotes is for awk
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

build=build-gpu out='' sanitize=yes
while (($#)); do
    case $1 in
        -o) out=${2:?-o wants a folder}; shift 2 ;;
        --build) build=${2:?--build wants a folder}; shift 2 ;;
        --skip-sanitizer) sanitize=''; shift ;;
        --) shift; break ;;
        --help) sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
        *) echo "gpu.sh: unknown argument '$1'; --help tells" >&2; exit 2 ;;
    esac
done
out=${out:-$build/results}

if ! command -v nvidia-smi >/dev/null || ! gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0); then
    echo "gpu.sh: there is no GPU here (nvidia-smi does not answer)" >&2
    exit 1
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
failed=0

# ---- build ------------------------------------------------------------------------------------
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d .)
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
if ! cmake -S . -B "$build" "${generator[@]}" -DCMAKE_CUDA_ARCHITECTURES="$capability" "$@" >"$out/build.log" 2>&1 ||
    ! cmake --build "$build" -j "$(nproc)" >>"$out/build.log" 2>&1; then
    tail -n 30 "$out/build.log" >&2
    echo "gpu.sh: the build failed; $out/build.log" >&2
    exit 1
fi
if [[ ! -f $build/coppice-cuda.so ]]; then
    echo "gpu.sh: no plugin was built: is nvcc in PATH? $out/build.log" >&2
    exit 1
fi
coppice=$build/coppice

# ---- tests ------------------------------------------------------------------------------------
ctest --test-dir "$build" -L 'cuda|nccl' --no-tests=error --output-on-failure 2>&1 | tee "$out/ctest.log"
((PIPESTATUS[0] == 0)) || failed=1

if [[ -n $sanitize ]] && command -v compute-sanitizer >/dev/null; then
    for test in "$build"/tests/cuda_*; do
        [[ -x $test && ! -d $test ]] || continue
        for tool in memcheck racecheck; do
            log=$out/$tool-$(basename "$test").log
            if compute-sanitizer --tool "$tool" --error-exitcode 9 "$test" >"$log" 2>&1; then
                echo "$tool $(basename "$test"): clean" | tee -a "$out/sanitizer.log"
            else
                echo "$tool $(basename "$test"): FAILED, $log" | tee -a "$out/sanitizer.log"
                failed=1
            fi
        done
    done
else
    echo "compute-sanitizer: left out" | tee "$out/sanitizer.log"
fi

# ---- benches ----------------------------------------------------------------------------------
bench() { # log, program and arguments...
    local log=$out/$1.log
    shift
    echo "+ $*" >"$log"
    if ! "$@" >>"$log" 2>&1; then
        echo "gpu.sh: failed: $*" >&2
        tail -n 5 "$log" >&2
        failed=1
    fi
    cat "$log"
}
cuda=(--set device.kind=cuda)
small=(--set model.preset=qwen2.5-0.5b)
large=(--set model.preset=llama3-8b)
bench prefill_8b "$coppice" bench prefill "${cuda[@]}" "${large[@]}" --set bench.tokens=8192
bench prefill_8b_deterministic "$coppice" bench prefill "${cuda[@]}" "${large[@]}" --set bench.tokens=8192 \
    --set device.deterministic=true
bench prefill_05b "$coppice" bench prefill "${cuda[@]}" "${small[@]}" --set bench.tokens=2048
bench decode_8b "$coppice" bench decode "${cuda[@]}" "${large[@]}" --set bench.tokens=8191 --set bench.sequences=32
bench decode_05b "$coppice" bench decode "${cuda[@]}" "${small[@]}" --set bench.tokens=2048 --set bench.sequences=32
bench hit_8b "$coppice" bench prompt_cache "${cuda[@]}" "${large[@]}" --set bench.tokens=8000 \
    --set bench.suffix_tokens=192 --set bench.users=2 --set scheduler.chunk_tokens=8192
bench tier_8b "$coppice" bench tier "${cuda[@]}" "${large[@]}"
if command -v mpirun >/dev/null; then
    share=(--set device.share=true)
    (($(nvidia-smi -L | wc -l) >= 2)) && share=()
    bench transfer mpirun --allow-run-as-root -n 2 "$coppice" bench transfer "${cuda[@]}" "${small[@]}" \
        --set transport.kv=nccl "${share[@]}"
else
    echo "gpu.sh: no mpirun: nothing with several ranks was run" | tee "$out/transfer.log"
fi
python=${COPPICE_PYTHON_TORCH:-python3}
if "$python" -c 'import torch, transformers' 2>/dev/null; then
    bench pytorch "$python" experiments/pytorch/beside.py
else
    echo "gpu.sh: $python has no torch or no transformers: nothing was compared" | tee "$out/pytorch.log"
fi

# ---- the table --------------------------------------------------------------------------------
figure() { # log, pattern of the line, awk expression for the figure
    awk -v want="$2" '$0 ~ want {print '"$3"'; exit}' "$out/$1.log" 2>/dev/null
}
row() { # what, figure, what it should reach
    printf '| %s | %s | %s |\n' "$1" "${2:-not measured}" "$3"
}
per_cent() { # a, b
    [[ -n $1 && -n $2 ]] && awk -v a="$1" -v b="$2" 'BEGIN {printf "%.1f %%", 100 * a / b}'
}
ours=$(sed -n 's/.*first token known \([0-9.]*\) ms.*/\1/p' "$out/prefill_05b.log" | head -n 1)
theirs=$(sed -n 's/.*transformers TTFT.*: \([0-9.]*\) ms.*/\1/p' "$out/pytorch.log" | head -n 1)
sdpa=$(sed -n 's/.*SDPA.* \([0-9.]*\) TFLOP.*/\1/p' "$out/pytorch.log" | head -n 1)
attention=$(figure prefill_8b '^attention alone' '$4 / 1000')
linear=$(figure prefill_8b '^whole prefill' '$NF')
exact=$(figure prefill_8b_deterministic '^whole prefill' '$3')
usual=$(figure prefill_8b '^whole prefill' '$3')
sum=$(sed -n 's/.* \([0-9.]*\) x the sum of.*/\1/p' "$out/prefill_05b.log" | head -n 1)
decode=$(sed -n 's/^attention alone.* \([0-9.]*\) % of copying.*/\1/p' "$out/decode_8b.log" | head -n 1)
hidden=$(sed -n 's/.*host time not hidden \(-\{0,1\}[0-9.]*\) %.*/\1/p' "$out/decode_8b.log" | head -n 1)
cold=$(awk '$1 == 8000 {print $3}' "$out/hit_8b.log")
hit=$(awk '$1 == 8000 {print $4}' "$out/hit_8b.log")
blocks=$(awk '/^KV blocks/ {on = 1} on && $1 == 256 {print $4; exit}' "$out/transfer.log")
buffer=$(awk '/^KV blocks/ {on = 1} on && $1 == 256 {print $7; exit}' "$out/transfer.log")
{
    echo "# $gpu"
    echo
    echo "$(date -u +%F), driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)," \
        "$(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/CUDA \1/p'), clocks" \
        "$(nvidia-smi --query-gpu=clocks.sm,clocks.mem,clocks.max.sm --format=csv,noheader -i 0) (SM, memory, highest SM)," \
        "revision $(git rev-parse --short HEAD 2>/dev/null). Command: \`tests/gpu.sh\`."
    echo
    echo "| what | figure | should reach |"
    echo "|---|---|---|"
    row "prefill of llama3-8b, 8,192 tokens, of the rate of its matrix products alone" "${linear:+$linear %}" "60 %"
    row "TTFT of qwen2.5-0.5b, 2,048 tokens (transformers: ${theirs:-not measured} ms)" "${ours:+$ours ms}" "half of transformers'"
    row "the same, over the sum of its kernels" "${sum:+$sum x}" "1.4 x"
    row "prefill attention, 8k (PyTorch's flash SDPA: ${sdpa:-not measured} TFLOP/s)" "${attention:+$attention TFLOP/s}" "SDPA's"
    row "decode attention, 32 sequences of 8k, of copy bandwidth" "${decode:+$decode %}" "80 %"
    row "hit of 8,000 of 8,192 tokens: TTFT of the cold one's" "$(per_cent "$hit" "$cold")" "6 %"
    row "256 blocks by NCCL, of one large buffer" "$(per_cent "$blocks" "$buffer")" "90 %"
    row "blocks to the host, of one large copy" "$(figure tier_8b '^blocks to' '$NF " %"')" "85 %"
    row "blocks from the host, of one large copy" "$(figure tier_8b '^blocks from' '$NF " %"')" "85 %"
    row "host time not hidden in a decode step of 32" "${hidden:+$hidden %}" "3 %"
    row "deterministic mode: prefill rate of the usual mode's" "$(per_cent "$usual" "$exact")" "printed only"
    row "tests (rings cuda, nccl), sanitizer" "$( ((failed)) && echo failed || echo passed)" "passed"
} | tee "$out/table.md"
exit $failed
