#!/usr/bin/env bash
# mpirun with what a single machine needs. Usage: experiments/launch.sh RANKS COMMAND...
#   --bind-to none          one or two ranks would otherwise be bound to one core each, and the
#                           compute threads of a rank would share that core
#   --oversubscribe         more ranks than cores is fine for correctness (not for latency)
#   mpi_yield_when_idle 1   a rank that waits inside MPI leaves its core to those that compute
#   --allow-run-as-root     only for root (containers)
set -euo pipefail
if (($# < 2)); then
    echo "usage: $0 RANKS COMMAND..." >&2
    exit 2
fi
ranks=$1
shift
as_root=()
((EUID == 0)) && as_root=(--allow-run-as-root)
exec mpirun "${as_root[@]}" -n "$ranks" --oversubscribe --bind-to none \
    --mca mpi_yield_when_idle 1 "$@"
