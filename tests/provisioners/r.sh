# shellcheck shell=bash disable=SC2034  # its variables are read by the files that source it
# Tests of the r provisioner with a repository on loopback. Sourced by run.sh.

prepare_r() {
  tree=tree-$SUITE-r
  make_tree "$tree" python3,ca-certificates,passwd,r-base-dev || return 1
  "$here/../cran/make-mirror.sh" "$DEV_FOLDER/cran" || return 1
  mkdir -p "$WORK/served"
  ln -sfn "$DEV_FOLDER/cran" "$WORK/served/cran"
  # The port is the system's choice; the server says which.
  python3 -u -m http.server --bind 127.0.0.1 --directory "$WORK/served" 0 >"$WORK/server-log" 2>&1 &
  SERVER=$!
  local waited=0
  until PORT=$(grep -om1 'port [0-9]*' "$WORK/server-log" | cut -d' ' -f2) && [[ -n $PORT ]]; do
    ((waited++ < 50)) || return 1
    sleep 0.1
  done
}

use_mirror() { GUEST_ENV+=("DSIMG_CRAN=http://127.0.0.1:$PORT/cran"); }

test_r_builds_from_source_in_order() {
  use_mirror
  expect_done r 'packages=(ellipsis R6=2.6.1 twoversions@1.0); binaries=never'
  expect_said 'building 4 packages' 'built rlang' 'ready: ellipsis 0.3.2, R6 2.6.1, twoversions 1.0'
  local frozen
  frozen=$(freeze r)
  expect_frozen "$frozen" $'cran\tellipsis\t0.3.2\t\tCRAN\t1'
  expect_frozen "$frozen" $'cran\trlang\t*\t\tCRAN\t0'
  expect_frozen "$frozen" $'cran\ttwoversions\t1.0\t\trepository\t1'
  expect_same "$(grep -c $'\tstats\t' <<<"$frozen")" 0 'packages of R itself'
  expect_no_file /var/cache/dsimg/r
  # A second time there is nothing to do.
  expect_done r 'packages=(ellipsis); binaries=never'
  expect_said 'ellipsis 0.3.2 is there already'
}

test_r_names_the_package_that_does_not_build() {
  use_mirror
  expect_refused r 'packages=(R6 needsbroken); binaries=never'
  expect_said 'error: R package `brokenpkg 0.1` does not build' 'no_such_header_anywhere.h' \
    'not built because of that: needsbroken' 'built R6'
}

test_r_prefers_debian() {
  use_mirror
  expect_done r 'packages=(R6 needsglue)'
  expect_said 'from Debian: r-cran-r6' 'needed by them, from Debian: r-cran-glue' 'built needsglue 0.1'
  local frozen
  frozen=$(freeze r)
  expect_frozen "$frozen" $'cran\tR6\t*\t\tdeb\t1'
  expect_frozen "$frozen" $'cran\tglue\t*\t\tdeb\t0'
  expect_refused r 'packages=(twoversions); binaries=only'
  expect_said 'Debian has no package for twoversions'
}

test_r_from_github_by_commit() {
  use_mirror
  local commit=0123456789abcdef0123456789abcdef01234567
  mkdir -p "$WORK/ours-$commit/pkg/R" "$WORK/served/owner/ours"
  printf 'Package: ourtools\nVersion: 0.3\nTitle: Ours\nDescription: Ours.\nLicense: MIT\nImports: R6\n' \
    >"$WORK/ours-$commit/pkg/DESCRIPTION"
  touch "$WORK/ours-$commit/pkg/NAMESPACE"
  tar -C "$WORK" -czf "$WORK/served/owner/ours/$commit" "ours-$commit"
  expect_done r "github=(owner/ours/pkg@$commit); binaries=never
    github_archive=http://127.0.0.1:$PORT/{repo}/{commit}"
  expect_said 'ready: ourtools 0.3'
  expect_frozen "$(freeze r)" $'cran\tourtools\t0.3\t\t'"github:owner/ours@$commit"$'\t1'
  expect_refused r 'github=(owner/ours@main)'
  expect_said '`owner/ours@main` names no commit' 'git ls-remote https://github.com/owner/ours'
}

test_r_from_bioconductor() {
  use_mirror
  local release
  release=$(in_guest Rscript -e 'cat(as.character(utils:::.BioC_version_associated_with_R_version()))')
  mkdir -p "$WORK/served/packages/$release"
  ln -sfn "$DEV_FOLDER/cran" "$WORK/served/packages/$release/bioc"
  expect_done r "bioconductor=(mime) binaries=never bioconductor_mirror=http://127.0.0.1:$PORT repository=http://127.0.0.1:$PORT/cran"
  expect_said "Bioconductor $release" 'ready: mime'
}

test_r_restores_a_lock() {
  cat >"$WORK/renv.lock" <<END
{"R": {"Version": "4.5.0", "Repositories": [{"Name": "CRAN", "URL": "http://127.0.0.1:$PORT/cran"}]},
 "Packages": {
  "R6": {"Package": "R6", "Version": "2.6.1", "Source": "Repository", "Repository": "CRAN"},
  "twoversions": {"Package": "twoversions", "Version": "1.0", "Source": "Repository", "Repository": "CRAN"}}}
END
  prepare_stage r 'renv_lock=/run/dsimg/stage-1/uploads/renv_lock/renv.lock'
  upload renv_lock "$WORK/renv.lock"
  run_stage r
  expect_same "$STATUS" 0 'the status'
  local frozen
  frozen=$(freeze r)
  expect_frozen "$frozen" $'cran\ttwoversions\t1.0\t*'
  expect_frozen "$frozen" $'cran\tR6\t2.6.1\t*'
}

test_r_refusals_say_what_to_do() {
  use_mirror
  expect_refused r 'packages=(elipsis); binaries=never'
  expect_said 'there is no R package `elipsis`' '`ellipsis`'
  expect_refused r 'packages=(twoversions=7.0); binaries=never'
  expect_said '`twoversions` has no version 7.0' "current version is 2.0"
  expect_refused r 'packages=("tidyverse/ggplot2")'
  expect_said 'a GitHub repository goes into `github`'
  expect_refused r 'packages=(R6); snapshot=yesterday'
  expect_said 'write a date'
  expect_refused r "packages=(mime); binaries=never; repository=http://127.0.0.1:1/cran"
  expect_said '`http://127.0.0.1:1/cran/src/contrib` has no package' '`[network] cran`'
  expect_refused r ''
  expect_said 'the stage asks for nothing'
}
