#!/usr/bin/env bash
# A long hunt: libFuzzer under the address and undefined sanitizers, one fuzzer after the other.
# Usage: tests/fuzz/hunt.sh SECONDS [NAME ...]      (all fuzzers without a NAME; needs clang)
# New inputs are kept in build-fuzz/corpus/NAME; what kills a fuzzer in build-fuzz/crash-NAME-*, and
# belongs into tests/fuzz/corpus/NAME once it is mended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if (($# < 1)); then
    sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
seconds=$1
shift
names=("$@")
if ((${#names[@]} == 0)); then
    for source in tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        names+=("${name%.c}")
    done
fi

cmake -S . -B build-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCOPPICE_LIBFUZZER=ON -DCOPPICE_SANITIZE=address,undefined >/dev/null
ninja -C build-fuzz "${names[@]/#/fuzz_}" >/dev/null
status=0
for name in "${names[@]}"; do
    mkdir -p "build-fuzz/corpus/$name"
    if build-fuzz/tests/fuzz_"$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
        -max_len=65536 -print_final_stats=1 -artifact_prefix=build-fuzz/crash-"$name"- \
        "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"build-fuzz/$name.log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: //p' "build-fuzz/$name.log")
        cover=$(grep -oE 'cov: [0-9]+' "build-fuzz/$name.log" | tail -n 1)
        echo "$name: $runs inputs in $seconds s, $cover, nothing found"
    else
        echo "$name: FAILED, see build-fuzz/$name.log" >&2
        status=1
    fi
done
exit $status
