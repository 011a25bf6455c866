#!/usr/bin/env bash
# Runs everything on this machine until Ctrl-C: control, proxy, five demo backends on loopback and
# the discovery simulator. `make run` builds first; BIN is the folder of the programs. Needs no root.
#
# The discovery simulator hands out the first three backends, which come and go there; the last two
# register themselves. CONTROL_PORT (8080), PROXY_PORT (10080) and BACKEND_PORT (19001, the first of
# five) choose other ports. With PROXY_PORT everything lives in ROOT (target/run-PORT) instead of control,
# so that the settings of the one in use stay untouched.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DEADLINE_S=20
readonly BIN=${BIN:-target/demo}
readonly HOST=127.0.0.1
readonly CONTROL_PORT=${CONTROL_PORT:-8080}
readonly BACKEND_PORT=${BACKEND_PORT:-19001}
readonly CONSOLE=http://$HOST:$CONTROL_PORT
root=control
if [[ -n ${PROXY_PORT:-} ]]; then
    root=${ROOT:-target/run-$PROXY_PORT}
fi
readonly DISCOVERY=$root/data/k8s_endpoints.json
# The list that was there before, while the simulator's is in its place; empty if there was none.
readonly DISCOVERY_BEFORE=$DISCOVERY.before_run

# The children in the order in which they are stopped, and their names.
pids=()
declare -A names=()

main() {
    check_port_number "${PROXY_PORT:-10080}" PROXY_PORT
    check_port_number "$CONTROL_PORT" CONTROL_PORT
    check_port_number "$BACKEND_PORT" BACKEND_PORT
    check_port_number "$((BACKEND_PORT + 4))" "BACKEND_PORT + 4"
    mkdir -p "$root/config" "$root/logs"
    if [[ -n ${PROXY_PORT:-} ]]; then
        echo "{ \"default_listen_port\": $PROXY_PORT }" >"$root/config/control_config.json"
    fi
    check_port_is_free "$CONTROL_PORT" CONTROL_PORT
    local port
    for port in $(backend_ports); do
        check_port_is_free "$port" BACKEND_PORT
    done

    trap stop_all EXIT
    trap 'exit 0' INT TERM HUP
    start_planes
    start_backends
    introduce
    # Returns when the first of them ends, which none should.
    local ended
    wait -n -p ended || true
    fail "${names[$ended]} stopped unexpectedly" "$(log_of "${names[$ended]}")"
}

backend_ports() { seq "$BACKEND_PORT" $((BACKEND_PORT + 4)); }

start_planes() {
    start control "$BIN/control_server" --root "$root" --listen "0.0.0.0:$CONTROL_PORT"
    await "control answers" control curl -fsS -o /dev/null "$CONSOLE/livez"
    await "control has published" control test -s "$root/config/proxy_config.json"
    check_port_is_free "$(published_port)" PROXY_PORT
    start proxy "$BIN/proxy_server" --root "$root"
    await "the proxy is ready" proxy test -s "$root/run/proxy.pid"
}

start_backends() {
    local port discovered=()
    for port in $(backend_ports); do
        if ((${#discovered[@]} < 3)); then
            start "demo-$port" "$BIN/demo_backend" --port "$port"
            discovered+=("$HOST:$port")
        else
            start "demo-$port" "$BIN/demo_backend" --port "$port" --register "$CONSOLE"
        fi
    done
    for port in $(backend_ports); do
        await "demo-$port answers" "demo-$port" answers "$port"
    done
    # A run that was killed has left its own list in place, and the earlier one beside it.
    if [[ ! -e $DISCOVERY_BEFORE ]]; then
        cp -p "$DISCOVERY" "$DISCOVERY_BEFORE" 2>/dev/null || : >"$DISCOVERY_BEFORE"
    fi
    start discovery "$BIN/gen_k8s_endpoints" --out "$DISCOVERY" \
        --backends "$(IFS=,; echo "${discovered[*]}")" --loop --interval 5
    for port in $(backend_ports); do
        await "control lists demo-$port" control is_listed "$port"
    done
    await "the proxy forwards" proxy proxy_forwards
}

introduce() {
    local proxy_port
    proxy_port=$(published_port)
    cat <<END

  Console       $CONSOLE/
  Logs          $root/logs/   (of this run: NAME.out)

  Three lines to try, in another terminal:

    TCP         bash -c 'head -n1 </dev/tcp/$HOST/$proxy_port'
    UDP         bash -c 'exec 3<>/dev/udp/$HOST/$proxy_port; echo hello >&3; timeout 2 head -n1 <&3'
    weight      curl -X POST -H 'content-type: application/json' -d '{"weight": 0}' $CONSOLE/api/backends/$HOST/$((BACKEND_PORT + 4))/weight

  Ctrl-C stops everything.

END
}

# start NAME PROGRAM ARGUMENT...: in a process group of its own, so that a Ctrl-C reaches this script
# alone, which then stops each in its turn.
start() {
    local name=$1
    shift
    set -m
    "$@" >"$(log_of "$name")" 2>&1 </dev/null &
    set +m
    # The planes go last, so that backends can leave.
    pids=("$!" "${pids[@]}")
    names[$!]=$name
}

log_of() { echo "$root/logs/$1.out"; }

# await WHAT NAME COMMAND...: until the command succeeds, while the child NAME lives.
await() {
    local what=$1 name=$2 deadline=$((SECONDS + DEADLINE_S)) pid
    shift 2
    until "$@" 2>/dev/null; do
        for pid in "${pids[@]}"; do
            if [[ ${names[$pid]} == "$name" ]] && ! kill -0 "$pid" 2>/dev/null; then
                fail "$name did not start" "$(log_of "$name")"
            fi
        done
        if ((SECONDS >= deadline)); then
            fail "not ready after $DEADLINE_S s: $what" "$(log_of "$name")"
        fi
        sleep 0.1
    done
}

# Whether a demo backend's name comes from there within a second.
answers() { [[ $(timeout 1 bash -c "head -n1 </dev/tcp/$HOST/$1") == demo-* ]]; }

# Whether control lists a backend with this port.
is_listed() {
    local table
    table=$(curl -fsS "$CONSOLE/api/backends" | tr -d ' \n')
    [[ $table =~ \"port\":$1[,}] ]]
}

# Control may still publish another port than the file has had from a run before.
proxy_forwards() { answers "$(published_port)"; }

# The port of `listen` in the published file.
published_port() {
    tr -d ' \n' <"$root/config/proxy_config.json" |
        grep -o '"listen":{[^}]*}' | grep -o '"port":[0-9]*' | cut -d: -f2
}

check_port_number() {
    if ! [[ $1 =~ ^[0-9]{1,5}$ ]] || ((10#$1 < 1 || 10#$1 > 65535)); then
        fail "$2: found $1, allowed: a port from 1 to 65535"
    fi
}

check_port_is_free() {
    if (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; then
        fail "port $1 is in use; stop the program that uses it, or choose another with $2=PORT"
    fi
}

# fail MESSAGE [LOG]: ends everything, showing the last lines of the log.
fail() {
    echo "make run: $1" >&2
    if [[ -n ${2:-} ]]; then
        echo "last lines of $2:" >&2
        tail -n 5 "$2" >&2
    fi
    exit 1
}

stop_all() {
    trap '' INT TERM HUP
    local pid
    for pid in "${pids[@]}"; do
        stop "$pid"
        if [[ ${names[$pid]} == discovery ]]; then
            withdraw_discovery
        fi
    done
    # Control has published without it by now, or was not there to read it.
    if [[ -n ${is_withdrawn:-} ]]; then
        rm -f "$DISCOVERY" "$DISCOVERY_BEFORE"
    fi
}

# The earlier list comes back. Without one an empty list tells control that no backend is left.
withdraw_discovery() {
    if [[ -s $DISCOVERY_BEFORE ]]; then
        mv "$DISCOVERY_BEFORE" "$DISCOVERY"
        return
    fi
    "$BIN/gen_k8s_endpoints" --n 0 --out "$DISCOVERY" >/dev/null
    is_withdrawn=yes
    local _
    for _ in {1..30}; do
        lists_discovered || return 0
        sleep 0.1
    done
}

# Whether control still lists a backend from discovery.
lists_discovered() {
    curl -fsS "$CONSOLE/api/backends" 2>/dev/null | tr -d ' \n' | grep -q '"source":"k8s"'
}

# TERM, then KILL after three seconds. The proxy gets INT: at TERM it would wait for open sessions.
stop() {
    local pid=$1 signal=TERM _
    if [[ ${names[$pid]} == proxy ]]; then
        signal=INT
    fi
    kill -"$signal" "$pid" 2>/dev/null || return 0
    for _ in {1..30}; do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

main
