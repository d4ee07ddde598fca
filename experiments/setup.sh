#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine ready to build and run coppice: installs the distribution's
# packages that are missing, and nothing else. Usage: experiments/setup.sh [--tests]
set -euo pipefail

packages=(build-essential cmake ninja-build pkg-config
    libopenmpi-dev openmpi-bin libhdf5-dev libfyaml-dev libxxhash-dev
    libjansson-dev libpcre2-dev libutf8proc-dev
    python3 python3-h5py python3-pandas python3-matplotlib)
if [[ ${1:-} == --tests ]]; then
    packages+=(libcmocka-dev)
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $state == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "setup: this is not Debian or Ubuntu; please install the equivalents of: ${missing[*]}" >&2
    exit 1
fi
root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "setup: these packages are missing and there is no sudo: ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
echo "setup: installing ${#missing[@]} missing packages: ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "${root[@]}" apt-get update >"$log" 2>&1 ||
    ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get failed, its last lines are above" >&2
    exit 1
fi
echo "setup: done" >&2
