#!/bin/sh
# What the kernels' machine code must have, for every architecture in the library: no kernel keeps
# anything in local memory (a spill halves the speed and breaks nothing else), those bound by memory
# move 16 bytes at a time, attention uses tensor cores and asynchronous copies.
#     kernel_sass.sh LIBRARY KERNELS_DIR CUOBJDUMP      status 77: skipped, with the reason
set -u
library=$1 kernels=$2 cuobjdump=$3
command -v "$cuobjdump" >/dev/null || {
    echo "skipped: no cuobjdump (of the CUDA toolkit; COPPICE_CUOBJDUMP names it)"
    exit 77
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# source, kernels of it (a pattern of their mangled names), instructions that each of them has
cat >"$work/wanted" <<'END'
norm.cu              norm_heldILi|norm_read_twiceILi8E        LDG[.]E.*[.]128 STG[.]E.*[.]128
place_qkv.cu         place_headsILi                           LDG[.]E.*[.]128 STG[.]E.*[.]128
elementwise.cu       embed_rowsILi8E|swiglu_rowsILi8E         LDG[.]E.*[.]128 STG[.]E.*[.]128
elementwise.cu       copy_stripes                             LDG[.]E.*[.]128 STG[.]E.*[.]128
probe.cu             read_all                                 LDG[.]E.*[.]128
prefill_attention.cu prefill_attentionILi                     HMMA LDSM LDGSTS.*[.]128
decode_attention.cu  decode_partILi                           HMMA LDSM LDGSTS.*[.]128
END

"$cuobjdump" -res-usage "$library" >"$work/usage" || exit 1
awk '
    /^arch = / {arch = $3}
    /^ *Function / {name = $2; sub(/:$/, "", name)}
    /REG:[0-9]/ {
        kernels[arch]++
        for (i = 1; i <= NF; i++)
            if ($i ~ /^(STACK|LOCAL):[1-9]/) {
                print arch " " name ": " $i " bytes of local memory"
                bad++
            }
    }
    END {
        for (arch in kernels) {
            printf "%s: %d kernels\n", arch, kernels[arch]
            seen++
        }
        if (!seen) {print "no kernel in the library"; bad++}
        exit bad > 0
    }' "$work/usage"
status=$?

# Lines: architecture, source, kernel, then every instruction it has, once each.
"$cuobjdump" -sass "$library" >"$work/sass" || exit 1
awk '
    function flush(    op) {
        if (name != "") {
            printf "%s %s %s", arch, source, name
            for (op in ops) printf " %s", op
            print ""
        }
        name = ""; split("", ops)
    }
    /^member / {flush(); source = $2; sub(/:$/, "", source); sub(/[.](o|obj)$/, "", source)
                sub(/.*:/, "", source)}
    /code for sm_/ {flush(); arch = $3}
    /^[ \t]*Function : / {flush(); name = $3}
    /^[ \t]+\/\*[0-9a-f]+\*\// {op = $2 ~ /^@/ ? $3 : $2; sub(/;$/, "", op); ops[op] = 1}
    END {flush()}' "$work/sass" >"$work/have"

while read -r source pattern wanted; do
    if [ ! -e "$kernels/$source" ]; then
        echo "$source: not there, nothing to look at"
        continue
    fi
    for arch in $(awk '{print $1}' "$work/have" | sort -u); do
        awk -v arch="$arch" -v source="$source" -v pattern="$pattern" -v wanted="$wanted" '
            $1 == arch && $2 == source && $3 ~ pattern {
                seen++
                n = split(wanted, want, " ")
                for (w = 1; w <= n; w++) {
                    found = 0
                    for (i = 4; i <= NF; i++)
                        if ($i ~ "^" want[w]) found = 1
                    if (!found) {print arch " " $3 ": no " want[w]; bad++}
                }
            }
            END {
                if (!seen) {print arch ": " source " has no kernel " pattern; bad++}
                exit bad > 0
            }' "$work/have" || status=1
    done
done <"$work/wanted"
exit $status
