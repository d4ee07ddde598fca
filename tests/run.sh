#!/usr/bin/env bash
# Everything that a machine without a GPU can test: sets up, builds (warnings are errors), runs all
# rings under ctest, then the core, the parsers and the thread pool under sanitizers.
# Usage: tests/run.sh [extra ctest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

experiments/setup.sh --tests
configure() { # folder, cmake arguments...
    local folder=$1
    shift
    cmake -S . -B "$folder" -G Ninja -DCOPPICE_WERROR=ON "$@" >"$folder.log" 2>&1 ||
        { tail -n 20 "$folder.log" >&2; exit 1; }
    rm -f "$folder.log"
}
build() { # folder, targets...
    ninja -C "$@" >"$1/ninja.log" 2>&1 || { grep -E 'error|FAILED' "$1/ninja.log" >&2; exit 1; }
}

echo "run.sh: building with address, undefined and thread sanitizers" >&2
configure build-asan -DCMAKE_BUILD_TYPE=Debug -DCOPPICE_SANITIZE=address,undefined -DCOPPICE_EMULATOR=OFF
configure build-tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOPPICE_SANITIZE=thread -DCOPPICE_EMULATOR=OFF
build build-asan all
build build-tsan test_device_pool test_device_attention
sanitized() { # folder, ctest arguments...
    ctest --test-dir "$@" --no-tests=error --output-on-failure >"$1/ctest.log" 2>&1 ||
        { tail -n 60 "$1/ctest.log" >&2; exit 1; }
    tail -n 3 "$1/ctest.log"
}
sanitized build-asan -j2 -L 'unit|property|golden|fuzz' -E 'analysis|record'
sanitized build-asan -R 'e2e|mpi.test_mpi_.*_2'
sanitized build-tsan -R 'test_device_(pool|attention)'

echo "run.sh: building for the tests proper" >&2
configure build-test
build build-test all
ctest --test-dir build-test -j2 --no-tests=error --output-on-failure "$@"
