#!/bin/sh
# Plays schemathesis against a control server of the debug build, in a folder of its own: no request,
# well-formed or not, may be answered by a server error. EXAMPLES says how many for each operation.
set -eu
version=4.32.5
examples=${EXAMPLES:-50}
target=$(realpath "${CARGO_TARGET_DIR:-target}")
venv=$target/schemathesis

if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    echo "skipped: schemathesis: python3 with its venv module is not at hand"
    exit 0
fi
if [ "$("$venv/bin/st" --version 2>/dev/null || true)" != "st, version $version" ]; then
    python3 -m venv "$venv"
    if ! "$venv/bin/pip" install --quiet "schemathesis==$version"; then
        echo "skipped: schemathesis: it cannot be installed here"
        exit 0
    fi
fi

folder=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ] && kill "$server" 2>/dev/null; then wait "$server" || true; fi
    rm -rf "$folder"
}
trap cleanup EXIT
"$target/debug/control_server" --init --root "$folder/control" --listen 127.0.0.1:0 2>"$folder/log" &
server=$!
tries=0
until base=$(grep -o 'http://[0-9.:]*' "$folder/log" | head -n 1) && [ -n "$base" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
# Something to ask after, so that paths of a backend are also answered by 200.
curl -sf -H 'Content-Type: application/json' -d '{"ip": "10.0.0.11", "port": 9001}' \
    "$base/api/register" >/dev/null

# The streams of /events and of /audit?follow=true never end by themselves, which is no fault.
printf '[parameters]\n"query.follow" = "false"\n' >"$folder/schemathesis.toml"
cd "$folder"
"$venv/bin/st" --config-file schemathesis.toml run "$base/api/openapi.json" --no-color \
    --checks not_a_server_error --max-examples "$examples" --seed 1 --request-timeout 10 \
    --exclude-path-regex '/events$'
kill -0 "$server" || { echo "the control server has ended"; cat "$folder/log"; exit 1; }
