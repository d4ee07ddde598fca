#!/usr/bin/env bash
# One host, 8 GPUs, a worker on each. Usage: experiments/launch/mpirun_1x8.sh [ARGUMENT...]
#
# Runs `coppice run configs/h100x8.yaml ARGUMENT...`. CONFIG, COPPICE and GPUS in the environment
# stand for another configuration, program (build/coppice) and number of workers; DRY_RUN=1 prints
# the command only.
#
# What to expect of llama3-8b on H100 80 GB, from public figures, none of them measured here:
#
#   weights       8.03 G x 2 bytes = 16.1 GB on each GPU; all ranks read or make them at the start
#   KV            131,072 bytes a token, 2 MiB a block of 16
#   pool          (80 GiB - 15 GiB weights - 1 GiB activations) x 0.9 = 58 GiB = 29,000 blocks
#                 = 470,000 tokens a GPU
#   prefill       8,192 tokens: 157 ms of matrix products + 28 ms of attention = 0.185 s (NVIDIA
#                 aiconfigurator's H100 tables; norms, launches and the host come on top)
#   links         a prefix of 4,096 tokens is 256 blocks, 537 MB. NVLink at 280 GB/s (NCCL 2.29
#                 between two GPUs, same tables): 1.9 ms, against 74 ms to compute it again
#
#   --bind-to none   each rank has threads of its own that load weights; NCCL's and MPI's run beside
set -euo pipefail
if [[ ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
fi
as_root=()
((EUID == 0)) && as_root=(--allow-run-as-root)
command=(mpirun "${as_root[@]}" -n "${GPUS:-8}" --bind-to none
    "${COPPICE:-build/coppice}" run "${CONFIG:-configs/h100x8.yaml}" "$@")
if [[ -n ${DRY_RUN:-} ]]; then
    echo "${command[*]}"
    exit 0
fi
exec "${command[@]}"
