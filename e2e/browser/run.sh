#!/bin/sh
# Checks the types of the console's modules, then drives the console in Chromium against the real
# binaries. CHROMIUM names the browser (chromium-headless-shell, or else chromium), WICKETGATE_BIN_DIR
# the folder of the binaries (that of the debug build). With an argument it runs that script instead of
# the tests.
set -eu
cd "$(dirname "$0")/../.."
WICKETGATE_BIN_DIR=$(realpath -m "${WICKETGATE_BIN_DIR:-${CARGO_TARGET_DIR:-target}/debug}")
cd e2e/browser

missing() {
    echo "browser tests: $1" >&2
    exit 1
}

command -v npm >/dev/null || missing "npm is missing: install nodejs (20 or later) and npm"
if [ -z "${CHROMIUM:-}" ]; then
    CHROMIUM=$(command -v chromium-headless-shell || command -v chromium) || missing "chromium is missing: install it or name it in CHROMIUM"
fi
CHROMIUM=$(command -v "$CHROMIUM") || missing "$CHROMIUM in CHROMIUM is no program"
[ -x "$WICKETGATE_BIN_DIR/control_server" ] || missing "$WICKETGATE_BIN_DIR has no control_server: build it first"
export CHROMIUM WICKETGATE_BIN_DIR

../../scripts/console_assets.sh
npm ci --ignore-scripts --prefer-offline --loglevel=error
./node_modules/.bin/tsc -p tsconfig.json
[ $# -eq 0 ] || exec node "$@"
exec node --test --test-concurrency=2 --test-timeout=900000 tests/
