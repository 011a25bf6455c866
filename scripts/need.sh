#!/bin/sh
# need.sh TOOL...: fails with one line a tool that is missing, saying where it comes from.
set -eu

missing=0
for tool in "$@"; do
    command -v "$tool" >/dev/null && continue
    case $tool in
        cargo) from="Rust 1.90 or later: https://rustup.rs" ;;
        cc) from="a C compiler as linker, on Debian: apt-get install gcc" ;;
        *) from="on Debian: apt-get install $tool" ;;
    esac
    echo "missing: $tool ($from)" >&2
    missing=1
done
exit $missing
