#!/usr/bin/env bash
# Makes a small repository in CRAN's form: make-mirror.sh DIR [SOURCE...]
#
# Its packages are CRAN's own source files, as Debian keeps them for its r-cran-* packages, and some made here:
#   brokenpkg     does not compile
#   needsbroken   needs brokenpkg
#   needsglue     needs glue, which Debian has as well
#   twoversions   2.0, and 1.0 in the archive
# Needs apt, a mirror with sources (DSIMG_TEST_MIRROR), tar and gzip; no R, and not root. The system's own apt
# lists stay as they are. A folder that is complete is left alone.
set -euo pipefail

usage='usage: make-mirror.sh DIR [SOURCE...]'
folder=$(realpath -m "${1:?$usage}")
mirror=${DSIMG_TEST_MIRROR:-http://deb.debian.org/debian}
suite=${DSIMG_TEST_SUITE:-trixie}
# Debian's source packages. Two that need no compiler, three that do, and one that needs another of these.
sources=("${@:2}")
if ((${#sources[@]} == 0)); then
  sources=(r-cran-r6 r-cran-mime r-cran-base64enc r-cran-glue r-cran-rlang r-cran-ellipsis)
fi

main() {
  if [[ -e $folder/complete ]]; then exit 0; fi
  contrib=$folder/src/contrib
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  rm -rf "$folder"
  mkdir -p "$contrib/Archive"
  fetch_sources
  make_broken
  make_needs_broken
  make_needs_glue
  make_two_versions
  write_index
  touch "$folder/complete"
  printf 'made %s: %s\n' "$folder" "$(cd "$contrib" && echo *.tar.gz)"
}

# With an apt configuration of its own, so that this works on any Debian host.
fetch_sources() {
  local apt=$work/apt file
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc" "$work/orig"
  printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$suite" \
    /usr/share/keyrings/debian-archive-keyring.gpg >"$apt/etc/debian.sources"
  cat >"$apt/apt.conf" <<END
Dir::State::lists "$apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/etc";
APT::Sandbox::User "";
END
  export APT_CONFIG=$apt/apt.conf
  apt-get -qq update
  (cd "$work/orig" && apt-get -qq source --download-only --tar-only "${sources[@]}")
  for file in "$work"/orig/*.orig.tar.*; do add_package "$file"; done
}

# Under the name that its own DESCRIPTION gives; some ship further packages inside, for their tests.
add_package() { # ARCHIVE
  local place=$work/unpacked top name version
  rm -rf "$place" && mkdir "$place"
  tar -xf "$1" -C "$place"
  top=$(echo "$place"/*)
  name=$(field Package "$top/DESCRIPTION")
  version=$(field Version "$top/DESCRIPTION")
  # CRAN's very bytes where Debian did not repack them.
  if [[ ${top##*/} == "$name" && $1 == *.gz ]]; then cp "$1" "$contrib/${name}_$version.tar.gz" && return; fi
  [[ ${top##*/} == "$name" ]] || mv "$top" "$place/$name"
  tar -C "$place" --owner=0 --group=0 -czf "$contrib/${name}_$version.tar.gz" "$name"
}

field() { sed -n "s/^$1: *//p" "$2" | head -n 1; }

# `new_package NAME VERSION LINES…`: the frame of a package, in $work/NAME.
new_package() {
  local name=$1 version=$2
  shift 2
  rm -rf "${work:?}/$name" && mkdir -p "$work/$name/R"
  printf '%s\n' "Package: $name" "Version: $version" 'Title: Made for the Tests' \
    'Description: It is part of a repository for tests.' 'Author: dsimg' 'Maintainer: dsimg <dsimg@example.org>' \
    'License: Apache License 2.0' 'Encoding: UTF-8' "$@" >"$work/$name/DESCRIPTION"
  printf 'export(answer)\n' >"$work/$name/NAMESPACE"
  printf 'answer <- function() "%s %s"\n' "$name" "$version" >"$work/$name/R/answer.R"
}

pack() { # NAME VERSION FOLDER
  mkdir -p "$3"
  tar -C "$work" --owner=0 --group=0 -czf "$3/$1_$2.tar.gz" "$1"
}

make_broken() {
  new_package brokenpkg 0.1 'NeedsCompilation: yes'
  mkdir "$work/brokenpkg/src"
  printf '#include <no_such_header_anywhere.h>\nint broken(void) { return 1; }\n' >"$work/brokenpkg/src/broken.c"
  printf 'useDynLib(brokenpkg)\n' >>"$work/brokenpkg/NAMESPACE"
  pack brokenpkg 0.1 "$contrib"
}

make_needs_broken() {
  new_package needsbroken 0.1 'Imports: brokenpkg, R6' 'NeedsCompilation: no'
  pack needsbroken 0.1 "$contrib"
}

make_needs_glue() {
  new_package needsglue 0.1 'Imports: glue (>= 1.0)' 'NeedsCompilation: no'
  pack needsglue 0.1 "$contrib"
}

make_two_versions() {
  new_package twoversions 1.0 'NeedsCompilation: no'
  pack twoversions 1.0 "$contrib/Archive/twoversions"
  new_package twoversions 2.0 'NeedsCompilation: no'
  pack twoversions 2.0 "$contrib"
}

# The fields that installers read, from each package's own DESCRIPTION. R falls back to PACKAGES where no
# PACKAGES.rds is.
write_index() {
  local archive name
  for archive in "$contrib"/*.tar.gz; do
    name=${archive##*/}
    tar -xzOf "$archive" "${name%%_*}/DESCRIPTION" | tr -d '\r' | awk '
      /^[A-Za-z]/ {keep = /^(Package|Version|Depends|Imports|LinkingTo|Suggests|License|NeedsCompilation|Priority|OS_type):/}
      keep && NF'
    printf 'MD5sum: %s\n\n' "$(md5sum <"$archive" | cut -d' ' -f1)"
  done >"$contrib/PACKAGES"
  gzip -9nk "$contrib/PACKAGES"
}

main
