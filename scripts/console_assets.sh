#!/bin/sh
# Brings what the console takes from npm, as control/console/package-lock.json pins it: its charts, to
# control/static/vendor/, and the bundler that writes its modules to control/static/bundle/. Both are
# embedded. Without npm, or without a network, the console is built without charts and from single
# modules, and says so: its tables and small lines need no charts, and modules only take longer to load.
set -eu
cd "$(dirname "$0")/../control"

charts=static/vendor/uPlot.iife.min.js
bundle=static/bundle/main.js
lock=console/package-lock.json

main() {
    has_charts=$(is_current "$charts" "$lock")
    has_bundle=$(is_current "$bundle" console/bundle.mjs "$lock" static/*.js)
    [ "$has_charts$has_bundle" = yesyes ] && exit 0
    command -v npm >/dev/null || without "npm is missing"
    npm ci --prefix console --ignore-scripts --prefer-offline --loglevel=error || without "npm brought nothing"
    [ "$has_charts" = yes ] || copy_charts
    [ "$has_bundle" = yes ] || node console/bundle.mjs || without "its modules cannot be bundled"
}

# is_current FILE SOURCE...: "yes" if FILE exists and no source is newer, otherwise "no".
is_current() {
    file=$1
    shift
    [ -e "$file" ] || { echo no; return; }
    [ -z "$(find "$@" -newer "$file")" ] && echo yes || echo no
}

copy_charts() {
    mkdir -p static/vendor
    from=console/node_modules/uplot
    cp "$from/dist/uPlot.min.css" "$from/LICENSE" static/vendor/
    cp "$from/dist/uPlot.iife.min.js" "$charts"
    touch "$charts"
}

without() {
    echo "console: $1: it is built without charts or without a bundle" >&2
    exit 0
}

main
