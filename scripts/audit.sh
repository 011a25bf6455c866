#!/bin/sh
# Checks by deny.toml which crates are used, where they come from and what their licences ask. Without
# cargo-deny it says so and checks nothing.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
if ! "$cargo" deny --version >/dev/null 2>&1; then
    echo "audit: nothing checked: cargo-deny is missing (cargo install --locked cargo-deny)"
    exit 0
fi
exec "$cargo" deny --locked check --hide-inclusion-graph bans licenses sources
