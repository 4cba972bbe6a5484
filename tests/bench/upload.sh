#!/usr/bin/env bash
# How fast a disk of random bytes is published, against a stand-in for AWS on this host that only checks sums, beside
# what two threads hash of it with SHA-256. The stand-in and the loopback share the processors. HTTP without TLS: a rate of
# the machine, not of a line to AWS.
#
#   tests/bench/upload.sh [GIB] [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."

gib=${1:-4}
rounds=${2:-5}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dsimg-upload.XXXXXX")
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT

cargo build --release --locked -p dsimg-aws --example upload_speed
program=${CARGO_TARGET_DIR:-target}/release/examples/upload_speed
head -c "${gib}GiB" </dev/urandom >"$work/disk"

export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_EC2_METADATA_DISABLED=true
for bodies in "" bodies; do
    if [[ $bodies ]]; then echo "== it hashes all bodies too, on the same processors"; else echo "== it checks the sum of sums"; fi
    # shellcheck disable=SC2086 # an empty word is no word
    "$program" serve $bodies >"$work/port" &
    server=$!
    until [[ -s $work/port ]]; do sleep 0.1; done
    AWS_ENDPOINT_URL=http://127.0.0.1:$(<"$work/port")
    export AWS_ENDPOINT_URL
    for _ in $(seq "$rounds"); do
        "$program" hash "$work/disk"
        rm -rf "$work/state"
        "$program" publish "$work/disk" "$work/state" | grep -v '^snap-'
    done | tee "$work/lines"
    # What was sent, divided by what was hashed just before.
    awk '/^hashed/ { hashed = $(NF - 1) } /^sent/ { print $(NF - 1) / hashed }' "$work/lines" | sort -n |
        awk '{ all[NR] = $1 } END { print "== sent to hashed: median " all[int((NR + 1) / 2)] ", " all[1] " to " all[NR] }'
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
    : >"$work/port"
done
