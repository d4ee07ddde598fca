#!/usr/bin/env bash
# The launch scripts say what they would start, and their configuration is one. Usage: launch.sh
# SOURCE_DIR COPPICE
set -euo pipefail
cd "$1"
scripts=0
for script in experiments/launch/*; do
    scripts=$((scripts + 1))
    line=$(HOSTS=first,second DRY_RUN=1 bash "$script" --set seed=5 -o out.h5)
    for word in "coppice run configs/h100x8.yaml" "--set seed=5 -o out.h5"; do
        [[ $line == *"$word"* ]] || { echo "$script: '$word' is not in: $line" >&2 && exit 1; }
    done
    # what is after the program, as it would read it
    read -ra words <<<"${line#*coppice run }"
    "$2" config "${words[@]}" >/dev/null || { echo "$script: see above: $line" >&2 && exit 1; }
    bash "$script" --help | grep -q "470,000 tokens a GPU" ||
        { echo "$script: --help lacks the arithmetic" >&2 && exit 1; }
done
((scripts == 4)) || { echo "$scripts launch scripts, not 4" >&2 && exit 1; }
if command -v shellcheck >/dev/null; then
    shellcheck experiments/launch/* tests/checks/launch.sh
fi
