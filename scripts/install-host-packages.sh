#!/usr/bin/env bash
# Installs the packages that dsimg needs on a Debian or Ubuntu host and that are missing; names them first.
# usage: install-host-packages.sh [build|test]      test adds what the tests start themselves
set -euo pipefail

main() {
  local wanted missing
  wanted=(gcc libc6-dev make qemu-system-x86 qemu-utils ovmf mmdebstrap e2fsprogs debian-archive-keyring
    ca-certificates uidmap)
  if [[ ${1:-build} == test ]]; then wanted+=(openssh-server openssh-client iproute2 shellcheck dpkg-dev python3 python3-venv gnupg genisoimage fdisk sudo openssl minisign); fi
  if ! command -v apt-get >/dev/null; then
    echo 'This is no Debian or Ubuntu: run `dsimg doctor`, which says what is missing and how this system installs it.'
    echo "Needed, by Debian's names: ${wanted[*]}"
    exit 0
  fi
  mapfile -t missing < <(list_missing "${wanted[@]}")
  if ((${#missing[@]} == 0)); then
    echo 'All host packages are there.'
    return
  fi
  echo "Installing: ${missing[*]}"
  install_packages "${missing[@]}"
}

list_missing() { # PACKAGE…
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done
}

install_packages() { # PACKAGE…
  local options=() package qemu=() others=()
  as_root apt-get update -qq
  # QEMU's packages must be of one version: where qemu-utils comes from the backports, so must the others.
  if comes_from_backports; then
    enable_backports
    options=(-t "$(codename)-backports")
  fi
  for package in "$@"; do
    case $package in qemu-* | ovmf) qemu+=("$package") ;; *) others+=("$package") ;; esac
  done
  if ((${#others[@]})); then apt_install "${others[@]}"; fi
  if ((${#qemu[@]})); then apt_install "${options[@]}" "${qemu[@]}"; fi
}

# dpkg says a line or two of each package; what is wrong comes by the other channel.
apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

comes_from_backports() {
  [[ $(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null) == *~bpo* ]]
}

enable_backports() {
  local suite
  suite=$(codename)-backports
  if ! apt-cache policy | grep -q "n=$suite"; then
    echo "Adding the suite $suite, because qemu-utils comes from it."
    echo "deb http://deb.debian.org/debian $suite main" | as_root tee "/etc/apt/sources.list.d/$suite.list" >/dev/null
    as_root apt-get update -qq
  fi
}

codename() {
  (. /etc/os-release && printf '%s' "$VERSION_CODENAME")
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo 'error: this needs root, and there is no sudo: run it as root once' >&2
    return 1
  fi
}

main "$@"
