#!/usr/bin/env bash
# Does fetching a prefix beat computing it again? See README.md beside this file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p results
for policy in off pull; do
    experiments/launch.sh 2 build/coppice run configs/quickstart.yaml \
        --set router.policy=round_robin --set migration.policy="$policy" \
        -o "results/migration_$policy.h5" "$@"
done
python3 analysis/report.py results/migration_off.h5 results/migration_pull.h5 \
    --figure results/migration.png
