#!/bin/sh
# What the browser tests need beyond cargo: Chromium, Node.js and npm. Installs them from Debian's
# packages where it may; elsewhere it fails with one line, since a browser test that is left out
# looks like one that passed.
set -eu

packages=
for tool in chromium node npm; do
    command -v "$tool" >/dev/null && continue
    case $tool in
        node) packages="$packages nodejs" ;;
        *) packages="$packages $tool" ;;
    esac
done
[ -z "$packages" ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing for the browser tests:$packages (on Debian, as root: apt-get install$packages)" >&2
    exit 1
fi
apt-get update
# Unquoted: one word a package.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
