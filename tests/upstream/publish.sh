#!/usr/bin/env bash
# Publishes one version of the package `moving`: publish.sh DIR VERSION
#
# In DIR are then an apt repository (DIR/apt, signed; its key is DIR/key.asc), a Python package index (DIR/simple) and a
# CRAN-like repository (DIR/src/contrib). Each has this version and no other: like an upstream that moves on.
# Needs gpg, dpkg-deb, python3, tar and gzip; not root.
set -euo pipefail

usage='usage: publish.sh DIR VERSION'
folder=$(realpath -m "${1:?$usage}")
version=${2:?$usage}
name=moving
work=$(mktemp -d)
trap 'gpgconf --kill all; rm -rf "$work"' EXIT
export GNUPGHOME=$folder/gnupg

main() {
  rm -rf "$folder/apt" "$folder/simple" "$folder/src"
  mkdir -p "$folder/apt" "$folder/simple/$name" "$folder/src/contrib"
  make_key
  publish_deb
  publish_wheel
  publish_r
}

make_key() {
  if [[ -e $folder/key.asc ]]; then return; fi
  mkdir -m 700 "$GNUPGHOME"
  gpg --quiet --batch --passphrase '' --quick-gen-key 'Moving <moving@example.org>' ed25519 sign never 2>/dev/null
  gpg --armor --export >"$folder/key.asc"
}

publish_deb() {
  local file=${name}_${version}_all.deb
  mkdir -p "$work/deb/DEBIAN" "$work/deb/usr/share/$name"
  printf '%s\n' "Package: $name" "Version: $version" 'Architecture: all' 'Maintainer: Moving <moving@example.org>' \
    'Description: made for the tests' >"$work/deb/DEBIAN/control"
  printf '%s\n' "$version" >"$work/deb/usr/share/$name/version"
  dpkg-deb --root-owner-group --build "$work/deb" "$folder/apt/$file" >/dev/null
  cd "$folder/apt"
  {
    dpkg-deb --field "$file"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sum "$file")"
  } >Packages
  printf 'Origin: Moving\nSuite: stable\nCodename: moving\nDate: %s\nSHA256:\n %s %s Packages\n' "$(date -Ru)" \
    "$(sum Packages)" "$(stat -c %s Packages)" >Release
  gpg --quiet --batch --yes --clearsign -o InRelease Release 2>/dev/null
}

publish_wheel() {
  local file=$name-$version-py3-none-any.whl
  python3 - "$folder/simple/$name/$file" "$name" "$version" <<'END'
import sys, zipfile
path, name, version = sys.argv[1:]
info = f"{name}-{version}.dist-info"
files = {
    f"{name}.py": f"version = {version!r}\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
with zipfile.ZipFile(path, "w") as wheel:
    for file, text in {**files, f"{info}/RECORD": record}.items():
        wheel.writestr(file, text)
END
  printf '<!DOCTYPE html><a href="%s#sha256=%s">%s</a>\n' "$file" "$(sum "$folder/simple/$name/$file")" "$file" \
    >"$folder/simple/$name/index.html"
}

publish_r() {
  local contrib=$folder/src/contrib
  mkdir -p "$work/$name/R"
  printf '%s\n' "Package: $name" "Version: $version" 'Title: Made for the Tests' \
    'Description: It is part of a repository for tests.' 'Author: dsimg' 'Maintainer: dsimg <dsimg@example.org>' \
    'License: Apache License 2.0' 'Encoding: UTF-8' 'NeedsCompilation: no' >"$work/$name/DESCRIPTION"
  printf 'export(version)\n' >"$work/$name/NAMESPACE"
  printf 'version <- function() "%s"\n' "$version" >"$work/$name/R/version.R"
  tar -C "$work" --owner=0 --group=0 -czf "$contrib/${name}_$version.tar.gz" "$name"
  {
    grep -E '^(Package|Version|License|NeedsCompilation):' "$work/$name/DESCRIPTION"
    printf 'MD5sum: %s\n\n' "$(md5sum <"$contrib/${name}_$version.tar.gz" | cut -d' ' -f1)"
  } >"$contrib/PACKAGES"
  gzip -9nk "$contrib/PACKAGES"
}

sum() { sha256sum "$1" | cut -d' ' -f1; }

main
