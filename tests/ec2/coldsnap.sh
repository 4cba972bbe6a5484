#!/usr/bin/env bash
# An independent client reads what dsimg uploads: coldsnap (https://github.com/awslabs/coldsnap) downloads the snapshot
# from the rig, and the bytes are those of the disk.
#
#   tests/ec2/coldsnap.sh [DISK]      a raw disk; without one, 300 MiB of files, holes and written zeros are made
#
# COLDSNAP names the program; `cargo install coldsnap` makes it.
set -euo pipefail
cd "$(dirname "$0")/../.."

coldsnap=${COLDSNAP:-$(command -v coldsnap || echo /var/tmp/coldsnap/bin/coldsnap)}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dsimg-coldsnap.XXXXXX")
trap 'rm -rf "$work"' EXIT

make_disk() {
    truncate -s 1200M "$work/disk"
    mke2fs -q -t ext4 -d crates "$work/disk"
    dd if=/dev/urandom of="$work/disk" bs=1M seek=700 count=300 conv=notrunc status=none
    dd if=/dev/zero of="$work/disk" bs=1M seek=1100 count=20 conv=notrunc status=none
}

disk=${1:-$work/disk}
[[ -n ${1:-} ]] || make_disk
cargo build --locked -p dsimg-aws --example upload_speed
eval "$(tests/ec2/rig.sh start --no-machines --fast --with-parent=$$)"

snapshot=$("${CARGO_TARGET_DIR:-target}/debug/examples/upload_speed" publish "$disk" "$work/state" holes | tail -1)
"$coldsnap" --endpoint "$AWS_ENDPOINT_URL" --region "$AWS_REGION" download --no-progress "$snapshot" "$work/downloaded"
# The volume is whole gibibytes.
truncate -s "$(stat -c %s "$disk")" "$work/downloaded"
cmp "$disk" "$work/downloaded"
echo "$snapshot: coldsnap read $(stat -c %s "$disk") bytes, the same as the disk's"
