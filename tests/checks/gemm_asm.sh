#!/bin/sh
# The BF16 tile must keep its accumulators in registers: the loop over k of the 6-row tile is 24
# vdpbf16ps and touches no stack. One spill there halves the speed and breaks nothing else.
#     gemm_asm.sh LIBRARY        status 77: skipped, with the reason
set -u
library=$1
command -v objdump >/dev/null || { echo "skipped: no objdump"; exit 77; }

code=$(objdump -d --no-show-raw-insn "$library" 2>/dev/null |
       awk '/^[0-9a-f]+ <dot_tile>:/ {on = 1; next} /^$/ {on = 0} on')
if [ -z "$code" ]; then
    echo "skipped: no function dot_tile in $library (another machine type, or link-time code)"
    exit 77
fi

# A loop is what lies between the target of a backward jump and the jump.
printf '%s\n' "$code" | awk '
    {
        sub(/:$/, "", $1); address[NR] = $1; line[$1] = NR; text[NR] = $0
        if ($2 ~ /^j/ && ($3 in line) && line[$3] < NR) { from[++loops] = line[$3]; to[loops] = NR }
    }
    END {
        for (i = 1; i <= loops; i++) {
            products = spills = 0
            for (n = from[i]; n <= to[i]; n++) {
                if (text[n] ~ /vdpbf16ps/) products++
                if (text[n] ~ /\(%rsp|\(%rbp/) spills++
            }
            if (products) printf "loop of %d instructions: %d vdpbf16ps, %d on the stack\n",
                                 to[i] - from[i] + 1, products, spills
            seen[products]++
            if (products && spills) bad++
        }
        for (rows = 1; rows <= 6; rows++)
            if (!seen[4 * rows]) { print "no loop of " 4 * rows " vdpbf16ps for " rows " rows"; bad++ }
        exit bad > 0
    }'
