#!/bin/sh
# Where the CPU of a proxy's one worker goes, for one kind of work: `perf record` on the running
# program, and the shares of system calls, kernel functions and its own code. Needs perf, haproxy and
# nginx, and the release build (make build; make bench brings the peers).
#
#   bench/profile.sh ours|haproxy|nginx 'exchange --connections 64 --bytes 64'
set -eu
cd "$(dirname "$0")/.."
program=$1 work=$2
bench=target/release/bench
folder=$(mktemp -d)
port=18400 backend=18401
started=""
trap 'kill $started 2>/dev/null || :; wait; rm -rf "$folder"' EXIT

fill() { # the peer's own configuration, its places filled in
    sed -e "s/@WORKERS@/1/; s/@SESSIONS@/2000/; s/@DESCRIPTORS@/8000/; s/@PORT@/$port/g" \
        -e "s/@BACKEND@/$backend/g; s/@BUSY_POLLING@//; s#@FOLDER@#$folder#; s/@BUFFER@/${BUFFER:-16k}/" \
        -e "s#@STREAM_MODULE@#load_module /usr/lib/nginx/modules/ngx_stream_module.so;#" "bench/peers/$1" >"$folder/$1"
}

taskset -c 0 $bench backend --listen 127.0.0.1:$backend >/dev/null &
started=$!
case $program in
ours)
    mkdir -p "$folder/control/config"
    cat >"$folder/control/config/proxy_config.json" <<JSON
{"listen": {"host": "127.0.0.1", "port": $port}, "algorithm": "weighted_round_robin", "session_log": "failures",
 "backends": [{"ip": "127.0.0.1", "port": $backend, "weight": 10}]}
JSON
    taskset -c 1 target/release/proxy_server --root "$folder/control" --workers 1 2>/dev/null &
    ;;
haproxy)
    fill haproxy.cfg
    taskset -c 1 haproxy -db -f "$folder/haproxy.cfg" &
    ;;
nginx)
    fill nginx.conf
    taskset -c 1 nginx -p "$folder" -c "$folder/nginx.conf" &
    ;;
*) echo "ours, haproxy or nginx" >&2 && exit 2 ;;
esac
pid=$!
started="$started $pid"
sleep 1
# shellcheck disable=SC2086
taskset -c 0 $bench load --target 127.0.0.1:$port --seconds 4 $work >"$folder/load" &
load=$!
sleep 0.5
tree=$(echo $pid $(pgrep -P $pid) | tr ' ' ,)
perf record --quiet --freq 1999 --call-graph fp --pid "$tree" --output "$folder/perf.data" -- sleep 3
wait $load

shares() { perf report --input "$folder/perf.data" --stdio --call-graph none "$@" 2>/dev/null | grep -E '^ +[0-9]' || :; }
echo "== $program, $work: $(grep -E '"rate"' "$folder/load" | tr -d ' ,')"
echo "-- by object"
shares --no-children --sort dso | head -3
echo "-- by system call, with all below it"
shares --children --sort symbol | grep -E '__x64_sys_|__do_softirq|handle_softirqs' | awk '{ print $1, $4 }' | head -8
echo "-- by function"
shares --no-children --sort symbol | awk '{ print $1, $3 }' | head -12
