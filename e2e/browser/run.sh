#!/bin/sh
# Checks the types of the console's modules, then drives the console in Chromium against the real
# binaries. CHROMIUM names the browser, WICKETGATE_BIN_DIR the folder of the binaries, which is that
# of the debug build by default. With an argument it runs that script instead of the tests.
set -eu
cd "$(dirname "$0")/../.."
WICKETGATE_BIN_DIR=$(realpath -m "${WICKETGATE_BIN_DIR:-${CARGO_TARGET_DIR:-target}/debug}")
cd e2e/browser

missing() {
    echo "browser tests: $1" >&2
    exit 1
}

command -v npm >/dev/null || missing "npm is missing: install nodejs (20 or later) and npm"
CHROMIUM=$(command -v "${CHROMIUM:-chromium}") || missing "chromium is missing: install it or name it in CHROMIUM"
[ -x "$WICKETGATE_BIN_DIR/control_server" ] || missing "$WICKETGATE_BIN_DIR has no control_server: build it first"
export CHROMIUM WICKETGATE_BIN_DIR

../../scripts/console_charts.sh
npm ci --ignore-scripts --prefer-offline --loglevel=error
./node_modules/.bin/tsc -p tsconfig.json
[ $# -eq 0 ] || exec node "$@"
exec node --test --test-concurrency=2 --test-timeout=300000 tests/
