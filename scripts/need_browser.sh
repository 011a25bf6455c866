#!/bin/sh
# What the browser tests need beyond cargo: Chromium, Node.js and npm. Installs them from Debian's
# packages where it may; elsewhere it fails with one line, since a browser test that is left out
# looks like one that passed. chromium-headless-shell, Chromium without windows of its own, takes a fifth
# of the CPU; the tests run in full Chromium, too.
set -eu

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

packages=
if ! command -v chromium-headless-shell >/dev/null; then
    { ! can_install && command -v chromium >/dev/null; } || packages=" chromium-headless-shell"
fi
command -v node >/dev/null || packages="$packages nodejs"
command -v npm >/dev/null || packages="$packages npm"
[ -z "$packages" ] && exit 0

if ! can_install; then
    echo "missing for the browser tests:$packages (on Debian, as root: apt-get install$packages)" >&2
    exit 1
fi
apt-get update
# Unquoted: one word a package.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages && exit 0
# No package of that name, or no network: a whole Chromium that is there is enough.
command -v chromium >/dev/null && command -v node >/dev/null && command -v npm >/dev/null
