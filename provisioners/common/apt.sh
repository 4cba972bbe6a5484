# shellcheck shell=bash
# apt as a build uses it. Sourced; needs bash, messages.sh, network.sh, mirror.sh and locks.sh.
#
#   begin_package_work SECONDS   waits for the locks, keeps services from starting (undone when the script ends)
#   refresh_package_lists        apt-get update, where the lists don't fit the sources any more
#   apt_get ARGUMENT…            apt-get with the build's options; on failure explains it and ends the script

# Files of this build's package work; /run/dsimg goes with the machine.
APT_WORK=${APT_WORK:-/run/dsimg/apt-work}
POLICY_FILE=/usr/sbin/policy-rc.d
MANDB_SWITCH=/var/lib/man-db/auto-update

# For the time of the build only: none of it is written into the image's configuration.
APT_OPTIONS=(
  -q -y
  -o Dpkg::Use-Pty=0
  -o DPkg::Lock::Timeout=120
  -o Dpkg::Options::=--force-unsafe-io
  -o Dpkg::Options::=--force-confdef
  -o Dpkg::Options::=--force-confold
  -o Acquire::Retries=3
  -o Acquire::Languages=none
  -o Acquire::PDiffs=false
  -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
  -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
  -o APT::Install-Recommends=false
  -o APT::Install-Suggests=false
)
# Hooks of other packages that would ask, list changes or restart services.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none UCF_FORCE_CONFFOLD=1

begin_package_work() { # SECONDS
  mkdir -p "$APT_WORK"
  hold_package_jobs
  wait_for_package_locks "$1"
  trap end_package_work EXIT
  keep_services_down
  keep_manual_index_down
  if [[ -n $(ls -A /var/lib/dpkg/updates 2>/dev/null) ]]; then
    say 'finishing package work that was cut off'
    dpkg --force-unsafe-io --force-confdef --force-confold --configure -a
  fi
}

end_package_work() {
  let_services_start
  let_manual_index_update
}

# invoke-rc.d and deb-systemd-invoke ask this file before they start anything; 101 means no.
keep_services_down() {
  if [[ -e $POLICY_FILE ]] && ! grep -q 'made by dsimg' "$POLICY_FILE"; then
    mv "$POLICY_FILE" "$POLICY_FILE.dsimg-kept"
  fi
  printf '#!/bin/sh\n# made by dsimg: nothing is started while packages are installed\nexit 101\n' >"$POLICY_FILE"
  chmod 755 "$POLICY_FILE"
}

let_services_start() {
  rm -f "$POLICY_FILE"
  if [[ -e $POLICY_FILE.dsimg-kept ]]; then mv "$POLICY_FILE.dsimg-kept" "$POLICY_FILE"; fi
}

# The index of manual pages takes longer than many installs; man-db's daily timer makes it in the running image.
keep_manual_index_down() {
  [[ -e $MANDB_SWITCH ]] && rm -f "$MANDB_SWITCH" && touch "$APT_WORK/manual-index-held"
  return 0
}

let_manual_index_update() {
  [[ -e $APT_WORK/manual-index-held && -d ${MANDB_SWITCH%/*} ]] && touch "$MANDB_SWITCH"
  rm -f "$APT_WORK/manual-index-held"
}

# Runs apt-get, shows what is worth a line, and keeps all of it in $APT_WORK/log. Errors are shown when they
# are explained.
run_apt_get() {
  local noise='^(E: |Reading (package lists|state information)|Building dependency tree|Solving dependencies|Selecting '
  noise+='|\(Reading database|Preparing to unpack|Unpacking |The following |  |Processing triggers|Scanning processes'
  noise+='|Hit:|Ign:|Use .sudo apt autoremove|debconf: delaying|Suggested packages|Recommended packages|Extracting temp'
  noise+='|Preconfiguring packages|Package .* is not available, but|This may mean that the|is only available from'
  noise+='|However the following packages|$)'
  apt-get "${APT_OPTIONS[@]}" "$@" </dev/null 2>&1 | tee "$APT_WORK/log" | grep --line-buffered -Ev "$noise"
  return "${PIPESTATUS[0]}"
}

apt_get() {
  run_apt_get "$@" && return 0
  # Lists that are some hours old name files that the mirror no longer has.
  if grep -qE '^(E|Err:).*(404 |Hash Sum mismatch|Unable to fetch some archives)' "$APT_WORK/log"; then
    say 'the mirror has changed since the lists were read: reading them again'
    rm -f "$APT_WORK/lists-read"
    refresh_package_lists
    run_apt_get "$@" && return 0
  fi
  # The verb is enough to name the call.
  local word verb=''
  for word in "$@"; do one_of "$word" install upgrade purge && verb=$word; done
  explain_apt_failure "$verb"
}

# The state of everything that the lists depend on.
sources_state() {
  # Not every machine has all of these places.
  { find /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/keyrings -type f -print0 2>/dev/null || true; } |
    sort -z | xargs -0r sha256sum | sha256sum
}

# Reads the lists once for a build: again after an hour (a machine may be taken up from a checkpoint days later),
# when the sources changed, or when the lists are gone.
refresh_package_lists() {
  local stamp=$APT_WORK/lists-read state
  lead_sources_through_mirror
  state=$(sources_state)
  if [[ -n $(find "$stamp" -mmin -60 2>/dev/null) && $(<"$stamp") == "$state" ]] &&
    compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
    return 0
  fi
  rm -f "$stamp"
  say 'reading the package lists'
  if ! run_apt_get -o APT::Update::Error-Mode=any update; then explain_apt_failure update; fi
  printf '%s\n' "$state" >"$stamp"
  # The freeze after this stage looks up where packages come from, and this has a processor to itself now.
  local freeze=/run/dsimg/freeze/apt/freeze.sh
  if [[ -e $freeze ]]; then bash "$freeze" --origins </dev/null >/dev/null 2>&1 & fi
}

explain_apt_failure() { # WHAT
  local log=$APT_WORK/log name
  # The errors again, at the end, where they are seen; -q prints them between other lines.
  printf 'error: `apt-get %s` failed\n' "$1" >&2
  grep -E '^(E:|dpkg: error|Err:)' "$log" | sort -u | head -n 12 >&2 || true
  while read -r name; do explain_unknown_package "$name"; done < <(
    sed -nE 's/^E: Unable to locate package ([^ ]+)$/\1/p; s/^E: Package .([^ ]+). has no installation cand.*/\1/p' "$log"
  )
  while read -r name; do explain_unknown_version "$name"; done < <(
    sed -nE "s/^E: Version '[^']*' for '([^']+)' was not found.*/\1/p" "$log"
  )
  explain_network_failure "$log" apt || true
  if grep -q 'No space left on device' "$log"; then
    hint "the image's disk is full: raise \`disk\` of the \`[[builder]]\`"
  fi
  exit 100
}

explain_unknown_package() { # NAME
  local near suite
  suite=$(. /etc/os-release && printf '%s' "${PRETTY_NAME:-this system}")
  near=$(apt-cache pkgnames | nearest_names "$1")
  hint "there is no package \`$1\` in the sources of $suite${near:+; near names: $near}"
}

explain_unknown_version() { # NAME
  local versions
  versions=$(apt-cache madison -- "$1" 2>/dev/null | awk -F' *[|] *' '!seen[$2]++ {printf "%s`%s`", sep, $2; sep = ", "}')
  hint "the sources have \`$1\` in version ${versions:-(none)}"
}

# Of the names on stdin, up to three that differ from NAME by few letters.
nearest_names() { # NAME
  perl -e '
    my $word = shift; my $limit = int(length($word) / 4) + 1; my @near;
    while (my $name = <STDIN>) {
      chomp $name;
      next if abs(length($name) - length($word)) > $limit || substr($name, 0, 1) ne substr($word, 0, 1);
      my @row = (0 .. length $word);
      for my $i (1 .. length $name) {
        my $corner = $row[0];
        my $best = $row[0] = $i;
        for my $j (1 .. length $word) {
          my $cost = $corner + (substr($name, $i - 1, 1) ne substr($word, $j - 1, 1));
          $corner = $row[$j];
          $cost = $row[$j] + 1 if $row[$j] + 1 < $cost;
          $cost = $row[$j - 1] + 1 if $row[$j - 1] + 1 < $cost;
          $row[$j] = $cost; $best = $cost if $cost < $best;
        }
        last if $best > $limit;
      }
      push @near, [$row[-1], $name] if $row[-1] <= $limit;
    }
    @near = sort { $a->[0] <=> $b->[0] || $a->[1] cmp $b->[1] } @near;
    splice @near, 3 if @near > 3;
    print join(", ", map { "`$_->[1]`" } @near);' "$1"
}
