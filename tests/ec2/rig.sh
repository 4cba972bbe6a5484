#!/usr/bin/env bash
# An EC2 where machines are real, on this host; see docs/ec2-rig.md.
#
#   eval "$(tests/ec2/rig.sh start)"     starts one and points AWS SDKs at it
#   tests/ec2/rig.sh status              which are running
#   tests/ec2/rig.sh stop [PORT]         ends one, or all
#   tests/ec2/rig.sh import NAME FILE    a disk image as a public AMI of the rig that AWS_ENDPOINT_URL names
#   tests/ec2/rig.sh run AMI KEY.pub     an instance of an AMI that lets this key in; its id and address
#
# Options of `start`: --port N, --with-parent[=PID] (ends with that process, else with the one that started this),
# --foreground, and those of `rig.sh help`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../venv.sh"
work=${DSIMG_EC2_RIG:-/var/tmp/ec2-rig}
python=$work/venv/bin/python
ready_limit=60
# Not into the checkout.
export PYTHONPYCACHEPREFIX=$work/pycache

free_port() {
    "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

exports() {
    cat <<END
export AWS_ENDPOINT_URL=http://127.0.0.1:$1
export AWS_ACCESS_KEY_ID=AKIARIGRIGRIGRIGRIG0
export AWS_SECRET_ACCESS_KEY=rig
export AWS_REGION=us-east-1
export AWS_DEFAULT_REGION=us-east-1
export AWS_EC2_METADATA_DISABLED=true
END
}

answers() {
    "$python" - "$1" <<'END' 2>/dev/null
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{sys.argv[1]}/_rig/settings", timeout=5)
END
}

start() {
    local port="" parent="" foreground="" arguments=()
    while (($#)); do
        case $1 in
            --port) port=$2; shift ;;
            --port=*) port=${1#*=} ;;
            --with-parent) parent=$PPID ;;
            --with-parent=*) parent=${1#*=} ;;
            --foreground) foreground=yes ;;
            *) arguments+=("$1") ;;
        esac
        shift
    done
    make_venv "$work" "$here/requirements.txt"
    port=${port:-$(free_port)}
    [[ -n $parent ]] && arguments+=(--with-parent "$parent")
    local command=("$python" -m rig --port "$port" --work "$work" "${arguments[@]}")
    cd "$here"
    if [[ -n $foreground ]]; then
        exports "$port"
        exec "${command[@]}" >&2
    fi
    local log=$work/rig-$port.log
    setsid "${command[@]}" </dev/null >"$log" 2>&1 &
    local pid=$! began=$SECONDS
    until answers "$port"; do
        if ! kill -0 "$pid" 2>/dev/null || ((SECONDS - began > ready_limit)); then
            echo "the rig did not start; $log says:" >&2
            tail -5 "$log" >&2
            exit 1
        fi
        sleep 0.2
    done
    exports "$port"
}

# Port and process of each rig that runs.
running() {
    local file pid port
    for file in "$work"/run-*/pid; do
        [[ -e $file ]] || continue
        pid=$(<"$file")
        port=${file%/pid}
        kill -0 "$pid" 2>/dev/null && echo "${port##*-} $pid"
    done
    return 0
}

stop() {
    running | while read -r port pid; do
        [[ -n ${1:-} && $1 != "$port" ]] && continue
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        rm -f "$work/rig-$port.log"
    done
}

case ${1:-help} in
    start) shift; start "$@" ;;
    stop) stop "${2:-}" ;;
    status) running | while read -r port pid; do echo "http://127.0.0.1:$port, process $pid"; done ;;
    venv) make_venv "$work" "$here/requirements.txt"; echo "$python" ;;
    import) exec "$python" "$here/rig/import_image.py" "${@:2}" ;;
    run) NO_PROXY=127.0.0.1 exec "$python" "$here/rig/run_instance.py" "${@:2}" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; [[ -x $python ]] && cd "$here" && "$python" -m rig --help ;;
esac
