# shellcheck shell=bash disable=SC2154  # parameters and `work` come from install.sh
# R packages from source. Sourced by install.sh.
#
# plan.R works out what has to be built and in which order, and fetches it; here it is built. R's own
# install.packages() only warns when one fails, goes on with the others and ends well.

build_from_sources() {
  export DSIMG_WORK=$work DSIMG_LIBRARY=$library
  [[ -e $work/to-build ]] || cp "$work/wanted" "$work/to-build"
  sed -i '/^$/d' "$work/to-build"
  [[ -s $work/to-build || ${#github[@]} -gt 0 ]] || return 0
  plan_build
  # For the freeze, as in list_wanted: a repository's package may have another name.
  if [[ -e $work/from-github ]]; then cat "$work/from-github" >>/var/cache/dsimg/r-requested; fi
  install_needed_debs
  install_compilers
  build_all
}

plan_build() {
  local repo
  repo=${repository:-${DSIMG_CRAN:-https://cloud.r-project.org}}
  if [[ -n $snapshot ]]; then
    # The public CRAN has no dated folders; Posit's mirror of it has.
    if [[ -z $repository && -z ${DSIMG_CRAN:-} ]]; then repo=https://packagemanager.posit.co/cran; fi
    repo=${repo%/}/$snapshot
  fi
  say "reading what $repo has"
  [[ -e $work/debian ]] || : >"$work/debian"
  printf '%s\n' "${github[@]}" >"$work/github"
  mkdir -p "$work/src"
  DSIMG_REPOSITORY=$(through_mirror cran "${repo%/}")
  DSIMG_BIOCONDUCTOR=$(through_mirror cran "${bioconductor_mirror%/}")
  DSIMG_GITHUB=$(through_mirror file "$github_archive")
  export DSIMG_REPOSITORY DSIMG_BIOCONDUCTOR DSIMG_GITHUB DSIMG_BINARIES=$binaries
  if ! logged run_r plan.R; then
    explain_network_failure "$work/log" cran || true
    exit 1
  fi
}

logged() {
  "$@" 2>&1 | tee "$work/log"
  return "${PIPESTATUS[0]}"
}

install_needed_debs() {
  local debs
  mapfile -t debs <"$work/debs"
  if ((${#debs[@]})); then
    say "needed by them, from Debian: $(listed "${debs[@]}")"
    apt_get install -- "${debs[@]}"
  fi
}

# Only when something has to be compiled: they take some 300 MB of the image.
install_compilers() {
  cut -f4 "$work/plan" | grep -qx yes || return 0
  command -v make >/dev/null && command -v gcc >/dev/null && command -v g++ >/dev/null && return 0
  say 'something has to be compiled: installing r-base-dev'
  refresh_package_lists
  apt_get install -- r-base-dev
}

# With make, packages are built side by side as their dependencies allow; `-k` goes on to find all that fail.
build_all() {
  local name version _
  mkdir -p "$work/done" "$work/logs"
  say "building $(wc -l <"$work/plan") packages, $jobs at a time"
  if command -v make >/dev/null; then
    make -s -k -j "$jobs" -f "$work/makefile" all 2>"$work/make-log" || true
  else
    while IFS=$'\t' read -r name version _; do ./build-one.sh "$name" "$version" || true; done <"$work/plan"
  fi
  report_failures
}

report_failures() {
  local name version _ failed=() held=()
  while IFS=$'\t' read -r name version _; do
    if [[ -e $work/logs/$name && ! -e $work/done/$name ]]; then
      failed+=("$name $version")
    elif [[ ! -e $work/done/$name ]]; then
      held+=("$name")
    fi
  done <"$work/plan"
  ((${#failed[@]} + ${#held[@]})) || return 0
  for name in "${failed[@]}"; do
    printf 'error: R package `%s` does not build; the last lines of its log:\n' "$name" >&2
    last_words "$work/logs/${name%% *}" | sed 's/^/  /' >&2
  done
  if ((${#held[@]})); then printf 'error: not built because of that: %s\n' "$(listed "${held[@]}")" >&2; fi
  hint 'a header or library that is not found is installed by an `apt` stage before this one (a package' \
    'ending in `-dev`); a version that is too old for this R may have a newer one'
  exit 1
}

# The compiler's errors where there are some, and the end.
last_words() { # LOG
  local errors
  errors=$(grep -nE '(^|: )(fatal )?[Ee]rror:|^ERROR|undefined reference|cannot find -l' "$1" | tail -n 8 | cut -d: -f2-)
  if [[ -n $errors ]]; then printf '%s\n' "$errors"; fi
  tail -n 12 "$1" | grep -vxFf <(printf '%s\n' "${errors:-no such line}") || true
}

# renv knows its own form best: versions from the archive, GitHub, Bioconductor.
restore_lock() {
  [[ -n $renv_lock ]] || return 0
  have_renv
  install_compilers_for_lock
  local repo=${repository:-${DSIMG_CRAN:-${DSIMG_MIRROR:+https://cloud.r-project.org}}}
  repo=$(through_mirror cran "$repo")
  export DSIMG_WORK=$work DSIMG_LIBRARY=$library
  export RENV_PATHS_ROOT=$work/renv RENV_CONFIG_CACHE_ENABLED=FALSE RENV_CONFIG_SANDBOX_ENABLED=FALSE
  export RENV_CONFIG_PAK_ENABLED=FALSE RENV_CONFIG_SYSREQS_CHECK_ENABLED=FALSE MAKEFLAGS=-j$jobs
  if [[ -n $repo ]]; then export RENV_CONFIG_REPOS_OVERRIDE=$repo; fi
  say "installing what ${renv_lock##*/} names"
  export DSIMG_LOCK=$renv_lock
  if ! logged run_r restore.R; then
    explain_network_failure "$work/log" cran || true
    fail "not all packages of \`${renv_lock##*/}\` are installed"
  fi
}

# Into a library of its own, which goes away after the stage, unless Debian has it or it is there.
have_renv() {
  mkdir -p "$work/renv-library"
  run_r -e 'quit(status = !requireNamespace("renv", quietly = TRUE))' && return 0
  [[ -e $work/debian ]] || { refresh_package_lists && list_debian_packages; }
  if [[ -n $(debian_package renv -) ]]; then
    say 'to read the lock, from Debian: r-cran-renv'
    apt_get install -- r-cran-renv
  else
    DSIMG_RENV_LIBRARY=$work/renv-library DSIMG_REPOSITORY=$(through_mirror cran "${repository:-${DSIMG_CRAN:-https://cloud.r-project.org}}") \
      run_r -e 'install.packages("renv", Sys.getenv("DSIMG_RENV_LIBRARY"), Sys.getenv("DSIMG_REPOSITORY"))'
  fi
}

# A lock does not say which of its packages have to be compiled; hardly any has none.
install_compilers_for_lock() {
  command -v make >/dev/null && command -v gcc >/dev/null && command -v g++ >/dev/null && return 0
  say 'packages of a lock are built from source: installing r-base-dev'
  refresh_package_lists
  apt_get install -- r-base-dev
}
