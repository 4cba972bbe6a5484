#!/usr/bin/env bash
# Installs R packages: Debian's own where they will do, the others built from source.
set -euo pipefail
. common/messages.sh
. common/network.sh
. common/mirror.sh
. common/locks.sh
. common/apt.sh
. ./params.sh
. ./debian.sh
. ./build.sh

# On the disk: sources and compiled objects of large packages do not fit into memory.
work=/var/cache/dsimg/r

main() {
  check_parameters
  begin_package_work "$lock_timeout"
  trap 'rm -rf "$work"; end_package_work' EXIT
  rm -rf "$work"
  mkdir -p "$work" "$library"
  have_r
  list_wanted
  take_debian_packages
  build_from_sources
  restore_lock
  apt-get clean
  report
}

check_parameters() {
  local item
  for item in "${packages[@]}" "${bioconductor[@]}"; do
    [[ $item =~ ^[A-Za-z][A-Za-z0-9.]*([=@][0-9][0-9.-]*)?$ ]] ||
      fail "\`$item\` is no R package" 'write `name`, or `name=version`; a GitHub repository goes into `github`'
  done
  for item in "${github[@]}"; do
    [[ $item =~ ^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_./-]+)?(@.*)?$ && $item != *..* ]] ||
      fail "\`$item\` is no GitHub repository" 'write `owner/repo@COMMIT`'
    [[ $item =~ @[0-9a-f]{40}$ ]] ||
      fail "\`$item\` names no commit, and what a branch or a tag stands for can change" \
        "give the full commit: \`git ls-remote https://github.com/$(cut -d/ -f1,2 <<<"${item%@*}")\` lists them"
  done
  ((${#packages[@]} + ${#bioconductor[@]} + ${#github[@]})) || [[ -n $renv_lock ]] ||
    fail 'the stage asks for nothing' 'give `packages`, `bioconductor`, `github` or `renv_lock`'
  [[ -z $snapshot || $snapshot =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] ||
    fail "\`snapshot\` is \`$snapshot\`" 'write a date, such as `2026-10-01`'
  [[ $binaries != only || ${#github[@]} -eq 0 ]] || fail '`binaries = "only"` leaves no way to install from `github`'
  [[ $library == /* ]] || fail "\`library\` is \`$library\`" 'give an absolute path'
  ((jobs > 0)) || jobs=$(nproc)
}

have_r() {
  command -v Rscript >/dev/null && return 0
  say 'R is not in the machine: installing r-base-core'
  refresh_package_lists
  apt_get install -- r-base-core
}

# name, version or `-`, and where it belongs, a line for each.
list_wanted() {
  local item
  for item in "${packages[@]}"; do printf '%s cran\n' "$(name_and_version "$item")"; done >"$work/wanted"
  for item in "${bioconductor[@]}"; do printf '%s bioc\n' "$(name_and_version "$item")"; done >>"$work/wanted"
  # For the freeze: R itself keeps no note of what was asked for. Hygiene removes the folder.
  cut -d' ' -f1 "$work/wanted" >>/var/cache/dsimg/r-requested
  printf '%s\n' "$library" >>/var/cache/dsimg/r-libraries
}

name_and_version() {
  local version=${1#*[=@]}
  [[ $1 == *[=@]* ]] || version=-
  printf '%s %s' "${1%%[=@]*}" "$version"
}

report() {
  local names
  mapfile -t names < <(cut -d' ' -f1 "$work/wanted"; cat "$work/from-github" 2>/dev/null || true)
  ((${#names[@]})) || return 0
  # Loading is what matters in the end; it also finds a system library that is missing at run time.
  run_r check.R "${names[@]}" || fail 'a package was installed, and does not load'
}

# Rscript with Debian's library paths, and without anybody's profile.
run_r() { Rscript --no-site-file --no-init-file --no-save --no-restore "$@"; }

main
