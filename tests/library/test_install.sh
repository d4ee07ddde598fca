#!/usr/bin/env bash
# Installs libcoppice into a folder of its own and builds the example against it in every promised
# way: pkg-config and CMake, shared and static. Each must run, with a preset and with a checkpoint.
# The header must be C++ too.
#     test_install.sh SOURCE_DIR BUILD_DIR      environment: CC, CMAKE, PYTHON, SANITIZE
set -euo pipefail
source=$1 build=$2
example=$source/experiments/library/example.c
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(${SANITIZE:+-fsanitize=$SANITIZE})

lines=$(wc -l <"$example")
if ((lines > 40)); then
    echo "the example has $lines lines; 40 at the most" >&2
    exit 1
fi

# Moved after the installation: neither file may know where it was first.
"$CMAKE" --install "$build" --prefix "$work/first" --component library >/dev/null
mv "$work/first" "$work/prefix"
prefix=$work/prefix
pc=$(dirname "$(find "$prefix" -name coppice.pc)")
export PKG_CONFIG_PATH=$pc LD_LIBRARY_PATH=$(dirname "$pc")

runs() { # PROGRAM: the second answer is the first, from the cache
    local program=$1 model out
    shift
    for model in "$@"; do
        out=$("$program" "$model")
        grep -q '^0 of [0-9]* prompt tokens' <<<"$out"
        grep -qE '^[1-9][0-9]* of [0-9]* prompt tokens' <<<"$out"
        if [[ $(grep -v ' prompt tokens ' <<<"$out" | sort -u | wc -l) != 1 ]]; then
            echo "$program $model: two answers" >&2
            exit 1
        fi
    done
}
PYTHONPATH=$source/tests/e2e "$PYTHON" -B -c 'import checkpoint, sys; checkpoint.make(*sys.argv[1:])' \
    "$source" "$work/checkpoint"
models=(tiny "$work/checkpoint")

"$CC" -Wall -Werror "${flags[@]}" "$example" $(pkg-config --cflags --libs coppice) -o "$work/shared"
runs "$work/shared" "${models[@]}"
readelf -d "$work/shared" | grep -q 'libcoppice.so.0'

# Static: our archive alone, its needs from pkg-config.
mkdir "$work/archive"
cp "$(dirname "$pc")/libcoppice.a" "$work/archive"
"$CC" -Wall -Werror "${flags[@]}" "$example" -L"$work/archive" \
    $(pkg-config --static --cflags --libs coppice | sed "s|-L$prefix[^ ]*||") -o "$work/static"
runs "$work/static" "${models[@]}"
if readelf -d "$work/static" | grep -q libcoppice; then
    echo "the static example wants libcoppice.so" >&2
    exit 1
fi

cat >"$work/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.22)
project(user LANGUAGES C)
find_package(coppice 0.1 REQUIRED COMPONENTS static)
foreach(kind coppice coppice_static)
    add_executable(with_\${kind} $example)
    target_link_libraries(with_\${kind} PRIVATE coppice::\${kind})
endforeach()
EOF
"$CMAKE" -S "$work" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_FLAGS="${flags[*]}" >"$work/log" &&
    "$CMAKE" --build "$work/build" >>"$work/log" || { cat "$work/log" >&2; exit 1; }
runs "$work/build/with_coppice" "${models[@]}"
runs "$work/build/with_coppice_static" "${models[@]}"

command -v g++ >/dev/null || { echo "skipped: no g++ to read the header as C++"; exit 77; }
echo '#include <coppice/coppice.h>' |
    g++ -std=c++11 -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags coppice) -x c++ -
echo "models: ${models[*]}"
