#!/usr/bin/env bash
# Builds one R package from its unpacked source: build-one.sh NAME VERSION
set -u
name=$1 version=$2
log=$DSIMG_WORK/logs/$name
start=$SECONDS
printf 'building %s %s\n' "$name" "$version"
options=(--library="$DSIMG_LIBRARY" --pkglock)
# The same bytes from the same source: without it, each package records when it was built.
if [[ -n ${SOURCE_DATE_EPOCH:-} ]]; then
  options+=("--built-timestamp=$(date -u -d "@$SOURCE_DATE_EPOCH" '+%Y-%m-%d %H:%M:%S UTC')")
fi
# From a folder of a fixed name, because compilers write the path into what they make.
if ! R CMD INSTALL "${options[@]}" "$DSIMG_WORK/src/$name" >"$log" 2>&1 </dev/null; then
  printf 'failed: %s %s\n' "$name" "$version"
  exit 1
fi
touch "$DSIMG_WORK/done/$name"
rm -rf "$log" "${DSIMG_WORK:?}/src/$name"
printf 'built %s %s in %s s\n' "$name" "$version" "$((SECONDS - start))"
