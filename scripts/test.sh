#!/usr/bin/env bash
# Runs every check of `make test`, stage by stage, and says how long each took.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO=${CARGO:-cargo}
# One line per finished stage.
times=()

main() {
    local started=$SECONDS
    trap 'show_times' EXIT
    stage "what the tests need" need
    stage "words" node scripts/plain_words.mjs
    stage "decisions" node scripts/adr.mjs
    stage "circles of imports" node scripts/circles.mjs
    stage "log lines" node scripts/log_events.mjs
    stage "formatting" "$CARGO" fmt --all --check
    stage "lints" "$CARGO" clippy --workspace --all-targets --locked -- -D warnings
    stage "documentation" document
    ! "$CARGO" deny --version >/dev/null 2>&1 || stage "dependencies" scripts/audit.sh
    # The end-to-end tests run the programs of the debug build.
    stage "build" "$CARGO" build --workspace --bins --locked
    stage "Rust tests" env CARGO="$CARGO" node scripts/rust_tests.mjs
    stage "examples in documentation" "$CARGO" test --workspace --locked --doc
    stage "browser tests" e2e/browser/run.sh
    times+=("$(printf '%6d s  %s' $((SECONDS - started)) "all of make test")")
}

need() {
    scripts/need.sh "$CARGO" cc
    scripts/need_browser.sh
    scripts/console_assets.sh
}

document() {
    RUSTDOCFLAGS="-D warnings" "$CARGO" doc --workspace --no-deps --locked --document-private-items
}

# stage NAME COMMAND...: a failure ends the script, with the name of the stage.
stage() {
    local name=$1 started=$SECONDS
    shift
    echo "make test: $name"
    if ! "$@"; then
        times+=("$(printf '%6d s  %s: failed' $((SECONDS - started)) "$name")")
        exit 1
    fi
    times+=("$(printf '%6d s  %s' $((SECONDS - started)) "$name")")
}

show_times() {
    echo "make test: time of each stage"
    printf '%s\n' "${times[@]}"
}

main
