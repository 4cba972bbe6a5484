#!/usr/bin/env bash
# dsimg beside Packer on the same base, packages and machine: pairs of whole builds, one after the other.
# usage: run.sh [PAIRS]      default 3; logs and images go to $BENCH_DIR (default /var/tmp/dsimg-bench)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${BENCH_DIR:-/var/tmp/dsimg-bench}
pairs=${1:-3}
dsimg=$here/../../target/release/dsimg
export DSIMG_CACHE_DIR=$dir/cache DSIMG_STATE_DIR=$dir/state

main() {
  command -v packer >/dev/null || { echo 'error: Packer is missing: `apt-get install packer` (Debian 12)' >&2; exit 3; }
  mkdir -p "$dir"
  make_base
  make_seed
  local pair
  for ((pair = 1; pair <= pairs; pair++)); do
    timed packer "$pair" run_packer
    timed dsimg "$pair" run_dsimg
    timed dsimg-last-command-changed "$pair" run_changed
    timed dsimg-nothing-changed "$pair" run_unchanged
  done
  report
}

make_base() {
  [[ -e $dir/base.qcow2 ]] || {
    "$dsimg" build --progress plain --force --output "$dir" "$here/base.toml"
    cp "$dir/bench-base-1/bench-base-1.qcow2" "$dir/base.qcow2"
  }
  BENCH_BASE=$dir/base.qcow2
  BENCH_SUM=$(sha256sum "$dir/base.qcow2" | cut -d' ' -f1)
  export BENCH_BASE BENCH_SUM
}

# Packer logs in with a password that the seed sets; dsimg makes its own seed with a key.
make_seed() {
  local work
  work=$(mktemp -d)
  printf '#cloud-config\ndisable_root: false\nssh_pwauth: true\nchpasswd:\n  expire: false\n  users:\n    - {name: root, password: packer, type: text}\nruncmd:\n  - [sed, -i, "s/^#*PermitRootLogin.*/PermitRootLogin yes/", /etc/ssh/sshd_config]\n' >"$work/user-data"
  printf '\nbootcmd:\n  - [sh, -c, "echo PermitRootLogin yes >/etc/ssh/sshd_config.d/00-bench.conf; echo PasswordAuthentication yes >>/etc/ssh/sshd_config.d/00-bench.conf"]\n' >>"$work/user-data"
  printf 'instance-id: bench\n' >"$work/meta-data"
  genisoimage -quiet -volid cidata -joliet -rock -output "$dir/seed.iso" "$work/user-data" "$work/meta-data"
  rm -rf "$work"
}

timed() { # SIDE PAIR COMMAND
  local start end
  start=$(date +%s.%N)
  "$3" >"$dir/$1-$2.log" 2>&1 || { tail -n 30 "$dir/$1-$2.log" >&2; exit 1; }
  end=$(date +%s.%N)
  echo "$1 $2 $(echo "$end - $start" | bc)" | tee -a "$dir/times"
}

run_packer() {
  rm -rf "$dir/out-packer"
  (cd "$dir" && packer build -timestamp-ui -var "dir=$dir" -var "sum=sha256:$BENCH_SUM" "$here/w1.json")
}

# A cold cache of stages and images: only downloads that Packer does not make either are kept (uv, the base).
run_dsimg() {
  rm -rf "$dir/cache/checkpoints" "$dir/w1-1"
  "$dsimg" build --progress plain --force --output "$dir" "$here/w1.toml"
}

# The same template with another last command: what Packer needs a whole build for.
run_changed() {
  sed "s/print(numpy/print($RANDOM, numpy/" "$here/w1.toml" >"$dir/w1-changed.toml"
  "$dsimg" build --progress plain --force --output "$dir" "$dir/w1-changed.toml"
}

run_unchanged() {
  "$dsimg" build --progress plain --force --output "$dir" "$dir/w1-changed.toml"
}

report() {
  echo
  awk '{n[$1]++; t[$1, n[$1]] = $3} END {for (side in n) {
    for (i = 1; i <= n[side]; i++) for (j = i + 1; j <= n[side]; j++)
      if (t[side, j] < t[side, i]) {x = t[side, i]; t[side, i] = t[side, j]; t[side, j] = x}
    m[side] = t[side, int((n[side] + 1) / 2)]; printf "%-27s median of %d: %6.2f s\n", side, n[side], m[side]}
    for (side in m) if (side != "packer") printf "%-27s / packer: %.3f\n", side, m[side] / m["packer"]}' "$dir/times"
  "$dsimg" inspect "$dir/w1-1" | sed -n '/^time/,$p'
}

main
