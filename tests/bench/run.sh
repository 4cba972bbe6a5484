#!/usr/bin/env bash
# dsimg beside Packer on the same base, packages and machine: rounds of builds, one after the other.
# usage: run.sh [ROUNDS]      default 5; logs and images go to $BENCH_DIR (default /var/tmp/dsimg-bench)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${BENCH_DIR:-/var/tmp/dsimg-bench}
rounds=${1:-5}
dsimg=$here/../../target/release/dsimg
export DSIMG_CACHE_DIR=$dir/cache DSIMG_STATE_DIR=$dir/state

main() {
  command -v packer >/dev/null || { echo 'error: Packer is missing: `apt-get install packer` (Debian 12)' >&2; exit 3; }
  mkdir -p "$dir"
  rm -f "$dir/figures"
  make_base
  make_seed
  local round
  for ((round = 1; round <= rounds; round++)); do
    # What is removed is not timed.
    rm -rf "$dir/out-packer"
    timed packer "$round" run_packer
    forget_builds
    forget_packages
    timed dsimg "$round" run_cold
    note_checkpoints "$round"
    timed changed "$round" run_changed
    note_output changed-output "$round" 'stage 3 of 4: check'
    timed unchanged "$round" run_unchanged
    timed new-template "$round" run_new_template
    note_output new-template-output "$round" 'stage 1 of 2: hello'
    # Two minutes each: a third of the rounds is enough.
    if ((round % 3 == 1)); then
      forget_builds
      timed matrix "$round" run_matrix
    fi
    forget_builds
    timed warm "$round" run_cold
    lock
    forget_builds
    timed locked "$round" run_locked
    rm -f "$dir/w1.lock"
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

# Runs COMMAND, with the seconds since its start before each line of its log.
timed() { # NAME ROUND COMMAND
  local start=$EPOCHREALTIME log=$dir/$1-$2.log
  "$3" 2>&1 | perl -MTime::HiRes=time -pe 'BEGIN {$start = time; $| = 1} printf "%.2f ", time - $start' >"$log" ||
    { tail -n 30 "$log" >&2; exit 1; }
  figure "$1" "$2" "$(bc <<<"$EPOCHREALTIME - $start")"
}

figure() { # NAME ROUND VALUE
  echo "$*" | tee -a "$dir/figures"
}

# When the first line of a stage's output came.
note_output() { # NAME ROUND STAGE
  figure "$1" "$2" "$(awk -v stage="$3" 'found && $2 ~ /^\[/ && /\]   / {print $1; exit} index($0, stage) {found = 1}' \
    "$dir/${1%-output}-$2.log")"
}

# How long the machine was held for each save of the cold build, and how large its memory became: the largest of each.
note_checkpoints() { # ROUND
  figure save "$1" "$(grep -oP 'checkpoint: \K[0-9.]+' "$dir/dsimg-$1.log" | sort -n | tail -n 1)"
  figure memory-mib "$1" "$(du -m "$dir"/cache/checkpoints/*/memory | sort -n | tail -n 1 | cut -f1)"
}

run_packer() {
  (cd "$dir" && packer build -timestamp-ui -var "dir=$dir" -var "sum=sha256:$BENCH_SUM" "$here/w1.json")
}

build() {
  "$dsimg" build --progress plain --force --output "$dir" "$@"
}

# A cold cache of stages and images: only downloads that Packer does not make either are kept (uv, the base).
forget_builds() {
  rm -rf "$dir"/cache/checkpoints "$dir"/w1-1 "$dir"/new-1 "$dir"/w1m-*
}

# The package store: Packer keeps nothing of what it installs.
forget_packages() {
  rm -rf "$dir"/cache/store
}

run_cold() {
  build "$here/w1.toml"
}

# The template with a lock beside it; what the lock holds is known from the build before.
lock() {
  cp "$here/w1.toml" "$dir/w1.toml"
  "$dsimg" lock --progress plain "$dir/w1.toml" >/dev/null
}

run_locked() {
  build --locked "$dir/w1.toml"
}

# The same template with another last command: what Packer needs a whole build for.
run_changed() {
  sed "s/print(numpy/print($RANDOM, numpy/" "$here/w1.toml" >"$dir/w1-changed.toml"
  build "$dir/w1-changed.toml"
}

run_unchanged() {
  build "$dir/w1-changed.toml"
}

# Another template on a base that was booted before.
run_new_template() {
  sed -e '/^\[\[provision\]\]/,$d' -e 's/^name = "w1"/name = "new"/' "$here/w1.toml" >"$dir/new.toml"
  printf '[[provision]]\nname = "hello"\ntype = "shell"\ninline = ["echo hello %s"]\n' "$RANDOM" >>"$dir/new.toml"
  build "$dir/new.toml"
}

# Four images that differ in their last stage, with no checkpoint of any of them.
run_matrix() {
  sed -e 's/^version = "1"/&\n[variables]\nword = "a"\n[matrix]\nword = ["a", "b", "c", "d"]/' \
    -e 's/^name = "w1"/name = "w1m"/' -e "s/print(numpy/print(\\\\\"{{ word }}\\\\\", numpy/" "$here/w1.toml" >"$dir/matrix.toml"
  build "$dir/matrix.toml"
}

report() {
  echo
  awk '
    {n[$1]++; t[$1, n[$1]] = $3}
    function median(name,   i, j, x) {
      for (i = 1; i <= n[name]; i++) for (j = i + 1; j <= n[name]; j++)
        if (t[name, j] < t[name, i]) {x = t[name, i]; t[name, i] = t[name, j]; t[name, j] = x}
      return t[name, int((n[name] + 1) / 2)]
    }
    function line(what, name, unit, beside) {
      printf "%-52s %8.2f %-4s%s\n", what, median(name), unit, beside ? sprintf("%.3f of Packer", median(name) / packer) : ""
    }
    END {
      packer = median("packer")
      printf "medians of %d\n", n["packer"]
      line("Packer: the whole build, each time", "packer", "s")
      line("dsimg: the whole build, nothing saved", "dsimg", "s", 1)
      line("dsimg: no checkpoint, packages from the store", "warm", "s", 1)
      line("dsimg: the same, from a lock", "locked", "s", 1)
      line("dsimg: last command changed, the whole build", "changed", "s", 1)
      line("   … until the changed stage says its first word", "changed-output", "s")
      line("dsimg: nothing changed", "unchanged", "s", 1)
      line("dsimg: another template on the base", "new-template", "s")
      line("   … until its first stage says its first word", "new-template-output", "s")
      line("dsimg: four images with another last stage each", "matrix", "s")
      printf "%-52s %8.2f s\n", "   … allowed: one whole build and three changed ones", median("dsimg") + 3 * median("changed")
      line("a save, the longest of a build", "save", "s")
      line("a memory file, the largest of a build", "memory-mib", "MiB")
    }' "$dir/figures"
  "$dsimg" inspect "$dir/w1-1" | sed -n '/^time/,$p'
}

main
