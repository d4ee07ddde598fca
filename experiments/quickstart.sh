#!/usr/bin/env bash
# From a bare Debian or Ubuntu machine to a figure: installs what is missing, builds, runs the same
# workload (shared system prompts, multi-turn chats) under two routing policies on a cluster of two
# CPU workers, and shows what routing by longest cached prefix buys.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

experiments/setup.sh
if [[ ! -f build/build.ninja ]]; then
    cmake -S . -B build -G Ninja >build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
    mv build.log build/
fi
echo "quickstart: building" >&2
ninja -C build coppice >build/ninja.log 2>&1 || { tail -n 30 build/ninja.log >&2; exit 1; }

mkdir -p results
echo "quickstart: 2 workers, route each request to the longest cached prefix" >&2
experiments/launch.sh 2 build/coppice run configs/quickstart.yaml -o results/quickstart.h5
echo "quickstart: the same requests, routed round robin" >&2
experiments/launch.sh 2 build/coppice run configs/quickstart.yaml \
    --set router.policy=round_robin -o results/quickstart_round_robin.h5

python3 analysis/report.py results/quickstart.h5 results/quickstart_round_robin.h5 \
    --figure results/quickstart.png
echo >&2
echo "quickstart: look at results/quickstart.png; the records are results/quickstart*.h5." >&2
echo "quickstart: change configs/quickstart.yaml, or try --set cache.capacity_blocks=128" >&2
