#!/usr/bin/env bash
# The shared library shows what coppice.h declares as COP_API, and nothing else.
# Usage: exports.sh libcoppice.so coppice.h
set -euo pipefail
shown=$(nm -D --defined-only "$1" | awk '{print $3}' | sed 's/@.*//' | grep -v '^__asan' | sort -u)
declared=$(grep -v '^#define' "$2" | tr '\n' ' ' | grep -oE 'COP_API [^;(]*\(' | sed -E 's/.*[ *]([a-z_0-9]+)\($/\1/' | sort -u)
if [[ -z $declared ]]; then
    echo "exports.sh: no COP_API in $2" >&2
    exit 1
fi
diff <(echo "$declared") <(echo "$shown") ||
    { echo "exports.sh: < declared in $2 alone, > shown by $1 alone" >&2; exit 1; }
