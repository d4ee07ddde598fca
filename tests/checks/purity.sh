#!/usr/bin/env bash
# The core decides and does nothing else: every undefined symbol of its archive must be its own, of
# the base library, or on the list (memory, string and math functions; no clock, file, thread).
# Usage: purity.sh libcoppice_core.a ALLOWED.txt
set -euo pipefail
archive=$1 allowed=$2
undefined=$(nm -u "$archive" 2>/dev/null | awk 'NF == 2 && $1 == "U" {print $2}' | sort -u)
if [[ -z $undefined ]]; then
    echo "purity.sh: no symbols in $archive" >&2
    exit 1
fi
bad=$(grep -vxF -f <(grep -v '^#' "$allowed") <<<"$undefined" | grep -vE '^__(asan|ubsan|tsan|sanitizer)_' || true)
own=$(nm --defined-only "$archive" 2>/dev/null | awk 'NF == 3 {print $3}' | sort -u)
bad=$(grep -vxF -f <(printf '%s\n' "$own") <<<"$bad" || true)
if [[ -n $bad ]]; then
    echo "purity.sh: the core may not use:" >&2
    echo "$bad" >&2
    exit 1
fi
