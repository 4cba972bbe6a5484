# shellcheck shell=bash disable=SC2154  # parameters and `work` come from install.sh
# R packages as Debian has them. Sourced by install.sh.

# Takes out of `wanted` what Debian has, as long as no version is asked for that it has not, and installs it.
take_debian_packages() {
  local take=() name version kind deb left=()
  [[ $binaries != never ]] || return 0
  refresh_package_lists
  list_debian_packages
  while read -r name version kind; do
    deb=$(debian_package "$name" "$version")
    if [[ -n $deb ]]; then
      take+=("$deb")
    else
      left+=("$name $version $kind")
    fi
  done <"$work/wanted"
  if [[ $binaries == only && ${#left[@]} -gt 0 ]]; then
    fail "Debian has no package for $(listed "${left[@]%% *}") in the version asked for" \
      'leave `binaries = "only"` out to have these built from source'
  fi
  if ((${#take[@]})); then
    say "from Debian: $(listed "${take[@]}")"
    apt_get install -- "${take[@]}"
  fi
  printf '%s\n' "${left[@]}" >"$work/to-build"
}

# Writes `name version` of every R package in the sources: the Debian name, the upstream version.
list_debian_packages() {
  local names
  mapfile -t names < <(apt-cache pkgnames r-cran-; apt-cache pkgnames r-bioc-)
  if ((${#names[@]} == 0)); then : >"$work/debian" && return 0; fi
  # Debian's version without epoch, revision and repackaging marks is R's own.
  apt-cache policy "${names[@]}" | awk '
    /^[^ ]/ {name = $1; sub(/:$/, "", name)}
    /^  Candidate:/ && $2 != "(none)" {
      version = $2
      sub(/^[0-9]+:/, "", version); sub(/-[^-]*$/, "", version); sub(/[+~](dfsg|ds|git|repack|really).*$/, "", version)
      print name, version
    }' >"$work/debian"
}

# The Debian package of an R package, if there is one in that version.
debian_package() { # NAME VERSION
  awk -v cran="r-cran-${1,,}" -v bioc="r-bioc-${1,,}" -v wanted="$2" '
    function plain(version) { gsub(/-/, ".", version); return version }
    ($1 == cran || $1 == bioc) && (wanted == "-" || plain($2) == plain(wanted)) {print $1; exit}' "$work/debian"
}
