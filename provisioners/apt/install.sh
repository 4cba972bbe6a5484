#!/usr/bin/env bash
# Installs, holds and removes packages as params.sh says.
set -euo pipefail
. common/messages.sh
. common/network.sh
. common/mirror.sh
. common/locks.sh
. common/apt.sh
. ./repositories.sh
. ./params.sh

main() {
  check_parameters
  begin_package_work "$lock_timeout"
  answer_questions
  add_repositories
  upgrade_packages
  install_packages
  purge_packages
  hold_packages
  remove_passing_repositories
  apt-get clean
  report
}

check_parameters() {
  local name
  for name in "${packages[@]}"; do
    [[ $name =~ ^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?([=/][A-Za-z0-9.+:~_-]+)?$ ]] ||
      fail "\`$name\` is no package name" 'write `name`, `name=version` or `name/suite`, in lower case'
    [[ $name != *- ]] || fail "\`$name\` would remove the package \`${name%-}\`" 'name it in `purge`'
  done
  for name in "${purge[@]}" "${hold[@]}"; do
    [[ $name =~ ^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$ ]] || fail "\`$name\` is no package name"
  done
  local given=$((${#packages[@]} + repositories_count + ${#debs[@]} + ${#purge[@]} + ${#hold[@]} + ${#debconf[@]}))
  [[ $given -gt 0 || $upgrade == true ]] || fail 'the stage asks for nothing' 'give `packages`, or another parameter'
  check_repositories
}

# On stdin, because an answer may be a password.
answer_questions() {
  ((${#debconf[@]})) || return 0
  printf '%s\n' "${debconf[@]}" | debconf-set-selections ||
    fail 'debconf does not take the answers' 'each line is: package question type value'
}

upgrade_packages() {
  [[ $upgrade == true ]] || return 0
  refresh_package_lists
  apt_get -o APT::Install-Recommends="$recommends" --with-new-pkgs upgrade
}

install_packages() {
  local deb wanted=("${packages[@]}")
  for deb in "${debs[@]}"; do
    dpkg-deb --info "$deb" >/dev/null 2>&1 || fail "\`${deb##*/}\` is no Debian package"
    wanted+=("$deb")
  done
  ((${#wanted[@]})) || return 0
  refresh_package_lists
  apt_get -o APT::Install-Recommends="$recommends" install -- "${wanted[@]}"
}

purge_packages() {
  local name present=()
  for name in "${purge[@]}"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status} ' -- "$name" 2>/dev/null) =~ (installed|config-files) ]]; then
      present+=("$name")
    else
      say "$name is not installed: nothing to purge"
    fi
  done
  if ((${#present[@]})); then apt_get purge -- "${present[@]}"; fi
}

hold_packages() {
  ((${#hold[@]})) || return 0
  apt-mark hold -- "${hold[@]}" || fail "cannot hold $(listed "${hold[@]}")" 'are all of them installed?'
}

report() {
  local names=("${packages[@]%%[=/]*}") deb
  for deb in "${debs[@]}"; do names+=("$(dpkg-deb -f "$deb" Package)"); done
  ((${#names[@]})) || return 0
  # Virtual names have no version of their own, and an error about them is no failure.
  dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' -- "${names[@]}" 2>/dev/null |
    awk '$1 ~ /^.i/ {printf "%s%s %s", sep, $2, $3; sep = ", "} END {if (sep) print ""}' | sed 's/^/ready: /' || true
}

main
