#!/usr/bin/env bash
# Two hosts of 8 GPUs, a worker on each GPU.
# Usage: HOSTS=first,second experiments/launch/mpirun_2x8.sh [ARGUMENT...]
#
# Runs `coppice run configs/h100x8.yaml ARGUMENT...` on both, with twice the load of one host. The
# program, its plugin and the configuration must be at the same path on each, within reach of ssh.
# CONFIG, COPPICE and GPUS (of a host) in the environment stand for others; DRY_RUN=1 prints the
# command only.
#
# What to expect of llama3-8b on H100 80 GB, from public figures, none of them measured here:
#
#   weights       8.03 G x 2 bytes = 16.1 GB on each GPU; all ranks read or make them at the start
#   KV            131,072 bytes a token, 2 MiB a block of 16
#   pool          (80 GiB - 15 GiB weights - 1 GiB activations) x 0.9 = 58 GiB = 29,000 blocks
#                 = 470,000 tokens a GPU
#   prefill       8,192 tokens: 157 ms of matrix products + 28 ms of attention = 0.185 s (NVIDIA
#                 aiconfigurator's H100 tables; norms, launches and the host come on top)
#   links         a prefix of 4,096 tokens is 256 blocks, 537 MB. NVLink within a host at 280 GB/s
#                 (NCCL 2.29, same tables): 1.9 ms; NDR between hosts at 46 GB/s an adapter (users'
#                 reports to nccl-tests): 11.7 ms; against 74 ms to compute it again
#   control       a few hundred bytes for each request over MPI: any network will do
#
# The record's times are on rank 0's clock; what the other host's clock may be off by is in it.
set -euo pipefail
if [[ ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
fi
if [[ -z ${HOSTS:-} ]]; then
    echo "usage: HOSTS=first,second $0 [ARGUMENT...]" >&2
    exit 2
fi
gpus=${GPUS:-8}
as_root=()
((EUID == 0)) && as_root=(--allow-run-as-root)
passed=()
for name in NCCL_DEBUG NCCL_SOCKET_IFNAME NCCL_IB_HCA COPPICE_CUDA_PLUGIN LD_LIBRARY_PATH; do
    [[ -n ${!name:-} ]] && passed+=(-x "$name")
done
IFS=, read -ra hosts <<<"$HOSTS"
command=(mpirun "${as_root[@]}" -n "$((gpus * ${#hosts[@]}))"
    --host "$(printf ",%s:$gpus" "${hosts[@]}" | cut -c2-)" --map-by "ppr:$gpus:node"
    --bind-to none "${passed[@]}" "${COPPICE:-build/coppice}" run
    "${CONFIG:-configs/h100x8.yaml}" --set workload.rate=24 --set workload.requests=8640 "$@")
if [[ -n ${DRY_RUN:-} ]]; then
    echo "${command[*]}"
    exit 0
fi
exec "${command[@]}"
