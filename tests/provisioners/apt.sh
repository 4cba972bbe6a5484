# shellcheck shell=bash
# Tests of the apt provisioner. Sourced by run.sh.

test_apt_installs_and_freezes() {
  expect_done apt 'packages=(tmux)'
  expect_said 'ready: tmux'
  local frozen
  frozen=$(freeze apt)
  expect_frozen "$frozen" $'deb\ttmux\t*\tamd64\tDebian trixie main\t1'
  expect_frozen "$frozen" $'deb\tlibevent-core-*\t*\tamd64\tDebian trixie main\t0\tlibevent *'
  expect_same "$(wc -l <<<"$frozen")" "$(in_guest dpkg-query -W | wc -l)" 'the number of packages'
  expect_no_file /usr/sbin/policy-rc.d
  expect_same "$(find "$GUEST/var/cache/apt/archives" -name '*.deb' | wc -l)" 0 'packages left in the cache'
  # The lists are read once.
  expect_done apt 'packages=(tmux)'
  expect_unsaid 'reading the package lists'
}

is_installed() { [[ $(in_guest dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# libpsl5 recommends publicsuffix.
test_apt_recommends_only_when_asked() {
  expect_done apt 'packages=(libpsl5t64)'
  ! is_installed publicsuffix || unmet 'a recommended package not to be installed'
  in_guest apt-get -qq -y purge libpsl5t64 >/dev/null
  expect_done apt 'packages=(libpsl5t64); recommends=true'
  is_installed publicsuffix || unmet 'a recommended package to be installed'
}

test_apt_unknown_names_and_versions() {
  expect_refused apt 'packages=(pyton3-pip tmux=0.1)'
  expect_said 'there is no package `pyton3-pip` in the sources of Debian' '`python3-pip`' \
    'the sources have `tmux` in version'
  expect_no_file /usr/sbin/policy-rc.d
  expect_refused apt 'packages=(Git)'
  expect_said '`Git` is no package name'
  expect_refused apt "packages=('-o=Dpkg::x')"
  expect_said 'is no package name'
  expect_refused apt 'packages=(tmux-)'
  expect_said 'would remove the package `tmux`'
  expect_refused apt ''
  expect_said 'the stage asks for nothing'
}

test_apt_hold_purge_and_debconf() {
  expect_done apt "packages=(tmux jq); hold=(tmux); debconf=('tzdata tzdata/Areas select Europe')"
  expect_same "$(in_guest apt-mark showhold)" tmux 'what is held'
  expect_done apt 'purge=(jq not-there)'
  expect_said 'not-there is not installed: nothing to purge'
  ! is_installed jq || unmet 'the purged package not to be installed'
  expect_refused apt 'hold=(not-there)'
  expect_said 'cannot hold not-there'
}

# Names the process and its command, and goes on when it is gone.
test_apt_waits_for_the_lock() {
  in_guest perl -e 'open my $f, "+>", "/var/lib/dpkg/lock-frontend"; my $l = pack("s s x4 q q i x4", 1, 0, 0, 0, 0);
    fcntl($f, 6, $l) or die; sleep 4' &
  sleep 1
  expect_done apt 'packages=(jq)'
  expect_said 'waiting for process' 'perl -e' 'to release `/var/lib/dpkg/lock-frontend`'
}

test_apt_gives_up_on_the_lock() {
  in_guest perl -e 'open my $f, "+>", "/var/lib/dpkg/lock"; my $l = pack("s s x4 q q i x4", 1, 0, 0, 0, 0);
    fcntl($f, 6, $l) or die; sleep 6' &
  sleep 1
  expect_refused apt 'packages=(jq); lock_timeout=1'
  expect_said '`/var/lib/dpkg/lock` is still held by process' 'after 1 s'
  wait
}

test_apt_keeps_services_down() {
  printf '#!/bin/sh\nexit 0\n' >"$GUEST/usr/sbin/policy-rc.d"
  make_deb starter '#!/bin/sh
/usr/sbin/policy-rc.d starter start; echo "$?" >/policy-answer'
  prepare_stage apt 'debs=(/run/dsimg/stage-1/uploads/debs/starter.deb)'
  upload debs "$WORK/starter.deb"
  run_stage apt
  expect_same "$STATUS" 0 'the status'
  expect_said 'ready: starter 1.0'
  expect_same "$(<"$GUEST/policy-answer")" 101 'the answer to a package that starts a service'
  expect_same "$(<"$GUEST/usr/sbin/policy-rc.d")" $'#!/bin/sh\nexit 0' 'the policy of the machine itself'
}

# `make_deb NAME POSTINST`: a package in $WORK/NAME.deb.
make_deb() {
  mkdir -p "$WORK/deb/DEBIAN"
  printf '%s\n' "Package: $1" 'Version: 1.0' 'Architecture: all' 'Maintainer: dsimg <dsimg@example.org>' \
    'Description: made for the tests' >"$WORK/deb/DEBIAN/control"
  printf '%s\n' "$2" >"$WORK/deb/DEBIAN/postinst"
  chmod 755 "$WORK/deb/DEBIAN/postinst"
  dpkg-deb --root-owner-group -Zgzip -b "$WORK/deb" "$WORK/$1.deb" >/dev/null
  rm -rf "$WORK/deb"
}

test_apt_a_package_that_fails() {
  make_deb failing $'#!/bin/sh\necho no luck >&2; exit 7'
  prepare_stage apt 'debs=(/run/dsimg/stage-1/uploads/debs/failing.deb)'
  upload debs "$WORK/failing.deb"
  run_stage apt
  expect_same "$STATUS" 100 'the status'
  expect_said 'error: `apt-get install` failed' 'failing'
  expect_no_file /usr/sbin/policy-rc.d
}

# A signed repository of our own, with its key in each of the ways.
test_apt_repository_with_its_key() {
  make_repository
  local table="repositories_count=1 repositories_name=(ours) repositories_uri=(file:///repo)
    repositories_suite=(./) repositories_components=('') repositories_architectures=('') repositories_keep=(true)"
  prepare_stage apt "$table
    repositories_key=(/run/dsimg/stage-1/uploads/repositories/ours.asc) repositories_key_url=('')
    repositories_fingerprint=('${FINGERPRINT:0:4} ${FINGERPRINT:4}'); packages=(hello-ours)"
  upload repositories "$WORK/ours.asc"
  run_stage apt
  expect_same "$STATUS" 0 'the status'
  expect_said 'signed by /etc/apt/keyrings/ours.asc' 'ready: hello-ours 1.0'
  expect_same "$(grep Signed-By "$GUEST/etc/apt/sources.list.d/ours.sources")" \
    'Signed-By: /etc/apt/keyrings/ours.asc' 'the key'
  expect_frozen "$(freeze apt)" $'deb\thello-ours\t1.0\tall\t*\t1'

  # Found by its fingerprint alone, because it is on the machine by now; and taken out again.
  expect_done apt "${table/(true)/(false)}
    repositories_key=('') repositories_key_url=('') repositories_fingerprint=($FINGERPRINT)"
  expect_no_file /etc/apt/sources.list.d/ours.sources

  expect_refused apt "$table repositories_key=('') repositories_key_url=(file:///repo/ours.gpg)
    repositories_fingerprint=(${FINGERPRINT//[0-9]/0})"
  expect_said "has the fingerprint $FINGERPRINT, not" 'do not trust it'
  expect_refused apt "$table repositories_key=('') repositories_key_url=(https://example.org/key)
    repositories_fingerprint=('')"
  expect_said 'has `key_url` without `fingerprint`'
  expect_refused apt "${table/file:/https://me:secret@example.org} repositories_key=('') repositories_key_url=('')
    repositories_fingerprint=('')"
  expect_said 'has a password in its URI' '`keep = false`'
}

make_repository() {
  export GNUPGHOME=$WORK/gnupg
  mkdir "$GUEST/repo"
  mkdir -m 700 "$GNUPGHOME"
  gpg --quiet --batch --passphrase '' --quick-gen-key 'Ours <ours@example.org>' ed25519 sign never 2>/dev/null
  FINGERPRINT=$(gpg --list-keys --with-colons | awk -F: '$1 == "fpr" {print $10; exit}')
  gpg --armor --export >"$WORK/ours.asc"
  gpg --export >"$GUEST/repo/ours.gpg"
  make_deb hello-ours $'#!/bin/sh\ntrue'
  mv "$WORK/hello-ours.deb" "$GUEST/repo/"
  (cd "$GUEST/repo" && {
    dpkg-deb -f hello-ours.deb
    printf 'Filename: ./hello-ours.deb\nSize: %s\nSHA256: %s\n\n' "$(stat -c %s hello-ours.deb)" \
      "$(sha256sum hello-ours.deb | cut -d' ' -f1)"
  } >Packages &&
    printf 'Origin: Ours\nSuite: stable\nCodename: ours\nDate: %s\nSHA256:\n %s %s Packages\n' "$(date -Ru)" \
      "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" >Release &&
    gpg --quiet --batch --yes --clearsign -o InRelease Release 2>/dev/null)
  gpgconf --kill all
}

# An https mirror whose certificate the machine does not know.
test_apt_says_what_to_set_for_tls() {
  trust_nobody
  rm -f "$GUEST/etc/apt/sources.list" "$GUEST"/etc/apt/sources.list.d/*
  printf 'deb [trusted=yes] %s %s main\n' "${MIRROR/http:/https:}" "$SUITE" >"$GUEST/etc/apt/sources.list"
  expect_refused apt 'packages=(jq)'
  if [[ $OUTPUT == *ertificate* ]]; then
    expect_said '`[network] ca = "host"`'
  else
    expect_said '`[network] proxy`'
  fi
}
