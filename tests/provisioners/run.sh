#!/usr/bin/env bash
# Runs the provisioners' scripts in a Debian tree: run.sh [PART…], such as `run.sh apt pip`; all of them without.
#
# Needs root (mounts and chroot), mmdebstrap and an apt mirror; `pip` needs PyPI and uv (a path in $UV, or on PATH),
# `r` builds packages from a loopback repository. Trees are kept in $DSIMG_DEV_FOLDER (/var/tmp/dsimg-dev).
# What only a booted machine shows (reboots, locks of a real systemd, the power-off) is tested with the engine.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Mounts of its own, which go with it, however it ends.
if [[ -z ${DSIMG_TEST_NAMESPACE:-} ]]; then
  exec env DSIMG_TEST_NAMESPACE=1 unshare --mount --propagation private bash "$0" "$@"
fi

export PROVISIONERS=$here/../../provisioners
PARTS=(definitions shell file apt pip hygiene r)
. "$here/guest.sh"
. "$here/expect.sh"

main() {
  local part parts=("${@:-${PARTS[@]}}")
  # On the disk: an upper layer in memory would not hold what pip and R put there.
  WORK=$(mktemp -d /var/tmp/dsimg-test.XXXXXX)
  trap finish EXIT
  UV=${UV:-$(command -v uv || true)}
  make_tree "tree-$SUITE" python3,ca-certificates,passwd || exit 1
  passed=0 failed=0
  for part in "${parts[@]}"; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
    run_tests "$part"
  done
  printf '%s passed, %s failed\n' "$passed" "$failed"
  ((failed == 0))
}

# Every function test_PART_… of a part, each in a fresh guest and a shell of its own. `prepare_PART` comes first, where
# there is one, and may choose another `tree`.
run_tests() { # PART
  local name start status tree=tree-$SUITE
  if declare -F "prepare_$1" >/dev/null; then "prepare_$1" || exit 1; fi
  while read -r name; do
    new_guest "$tree"
    start=$SECONDS
    # Not as a condition, where bash would overlook what fails inside.
    (set -e; "$name") >"$WORK/test-log" 2>&1
    status=$?
    if ((status == 0)); then
      passed=$((passed + 1))
      printf 'ok    %s (%s s)\n' "$name" "$((SECONDS - start))"
    else
      failed=$((failed + 1))
      printf 'FAIL  %s (%s s)\n' "$name" "$((SECONDS - start))"
      sed 's/^/      /' "$WORK/test-log"
    fi
  done < <(compgen -A function | grep "^test_$1_")
}

finish() {
  drop_guest
  if [[ -n ${SERVER:-} ]]; then kill "$SERVER" 2>/dev/null; fi
  rm -rf "$WORK"
}

main "$@"
