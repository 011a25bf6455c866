#!/bin/sh
# Brings the console's charts from npm, as control/console/package-lock.json pins them, to
# control/static/vendor/, from where they are embedded. Without npm, or without a network, the console
# is built without charts and says so; its tables and small lines do not need them.
set -eu
cd "$(dirname "$0")/../control"

without() {
    echo "console: built without charts: $1" >&2
    exit 0
}

wanted=static/vendor/uPlot.iife.min.js
lock=console/package-lock.json
[ -e "$wanted" ] && [ "$wanted" -nt "$lock" ] && exit 0
command -v npm >/dev/null || without "npm is missing"
npm ci --prefix console --ignore-scripts --prefer-offline --loglevel=error || without "npm brought nothing"
mkdir -p static/vendor
from=console/node_modules/uplot
cp "$from/dist/uPlot.min.css" "$from/LICENSE" static/vendor/
cp "$from/dist/uPlot.iife.min.js" "$wanted"
touch "$wanted"
