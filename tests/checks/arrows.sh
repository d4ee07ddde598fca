#!/usr/bin/env bash
# Holds the arrows between modules: who may include whom, and which file owns a foreign header.
# Usage: arrows.sh SOURCE_DIR
set -euo pipefail
cd "$1/src"
declare -A may=(
    [base]="base" [core]="core base" [model]="model base" [workload]="workload base"
    [record]="record base" [config]="config base" [transport]="transport base"
    [tokenizer]="tokenizer base" [device]="device model base"
    [cuda]="cuda kernels.h device transport model base"
    [api]="api coppice.h core model tokenizer device base" [coppice.h]="base"
    [drive]="drive coppice.h core model tokenizer workload record config device transport base"
    [main.c]="drive config base transport" # transport: it opens the bus and ends the job
)
bad=0 seen=0
for module in "${!may[@]}"; do
    while IFS=: read -r file _ included; do
        seen=$((seen + 1))
        target=${included#*\"}
        target=${target%%/*}
        target=${target%\"}
        [[ $included == *build_info.h* ]] && continue
        if [[ " ${may[$module]} " != *" $target "* ]]; then
            echo "src/$file: module $module may not include \"${included#*\"}" >&2
            bad=1
        fi
    done < <(grep -rHnE '^#include "' "$module" --include='*.[ch]' --include='*.inc')
done

# Foreign headers, and the folders or files that alone may name each.
declare -A owner=(
    [mpi.h]=transport/ [hdf5.h]=record/ [libfyaml.h]=config/ [xxhash.h]=base/hash.c
    [jansson.h]=base/json.c [pcre2.h]=tokenizer/ [utf8proc.h]=tokenizer/
    [immintrin.h]=device/ [pthread.h]="device/ cuda/"
    [cuda_runtime_api.h]=cuda/ [cublasLt.h]=cuda/ [nccl.h]=cuda/ [dlfcn.h]=base/plugin.c
)
for header in "${!owner[@]}"; do
    while IFS= read -r file; do
        allowed=
        for place in ${owner[$header]}; do
            [[ $file == "$place"* ]] && allowed=yes
        done
        if [[ -z $allowed ]]; then
            echo "src/$file: <$header> belongs to src/${owner[$header]}" >&2
            bad=1
        fi
    done < <(grep -rlE "^ *# *include <$header>" . --include='*.[ch]' --include='*.inc' | sed 's|^\./||')
done
if ((seen < 50)); then
    echo "arrows.sh: only $seen includes found: is $1 the source tree?" >&2
    exit 1
fi
exit $bad
