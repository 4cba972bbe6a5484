#!/usr/bin/env bash
# Lists the installed Debian packages: ecosystem, name, version, architecture, origin, 1 if asked for,
# and the source package with its version where they are others.
set -euo pipefail
export LC_ALL=C

main() {
  local work=/run/dsimg/freeze
  mkdir -p "$work"
  if [[ ${1:-} == --origins ]]; then
    list_origins "$work"
    return
  fi
  dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package} ${source:Version}\n' | grep '^installed' >"$work/debs"
  list_origins "$work"
  # What is not here is left out by a quick look: there are 200 times as many.
  awk -F'\t' '{print $2 "=" $3 ":" $4}' "$work/debs" >"$work/names"
  grep -Ff "$work/names" "$work/origins" >"$work/origins-here" || true
  automatic_packages >"$work/automatic"
  # In each pass, `pass` says which of the three files a line is from.
  awk -F'\t' -v OFS='\t' '
    pass == 1 {automatic[$1] = 1; next}
    pass == 2 {origin[$1] = $2; next}
    {
      id = $2 "=" $3 ":" $4
      # apt keeps its marks for `all` packages under the native architecture.
      asked = !(($2 ":" $4) in automatic) && !($4 == "all" && ($2 ":" native) in automatic)
      line = "deb" OFS $2 OFS $3 OFS $4 OFS origin[id] OFS (asked + 0)
      print $5 == $2 " " $3 ? line : line OFS $5
    }' native="$(dpkg --print-architecture)" pass=1 "$work/automatic" pass=2 "$work/origins-here" pass=3 "$work/debs" |
    sort
}

# name:architecture of what was pulled in by others.
automatic_packages() {
  local file=/var/lib/apt/extended_states
  [[ -e $file ]] || return 0
  awk '/^Package:/ {name = $2} /^Architecture:/ {arch = $2} /^Auto-Installed:/ {auto = $2}
    /^$/ {if (auto == 1) print name ":" arch; auto = 0} END {if (auto == 1) print name ":" arch}' "$file"
}

# Writes `name=version:architecture<TAB>origin` for all that the package lists know, such as "Debian trixie main".
# The lists are large, so it is done once for each state of theirs: by apt's script in the background as soon as they
# were read, and here where nobody did.
list_origins() { # FOLDER
  local work=$1 state list
  exec {lock}>"$work/origins.lock"
  flock "$lock"
  state=$(stat -c '%n %s %Y' /var/lib/apt/lists/*_Packages* 2>/dev/null || true)
  if [[ ! -e $work/origins-state || $(<"$work/origins-state") != "$state" ]]; then
    : >"$work/origins"
    for list in /var/lib/apt/lists/*_Packages /var/lib/apt/lists/*_Packages.*; do
      [[ -e $list ]] || continue
      /usr/lib/apt/apt-helper cat-file "$list" | grep -E '^(Package|Version|Architecture): ' |
        awk -v origin="$(origin_of "$list")" '
          /^P/ {name = substr($0, 10); version = arch = ""; next}
          /^V/ {version = substr($0, 10)}
          /^A/ {arch = substr($0, 15)}
          version != "" && arch != "" {print name "=" version ":" arch "\t" origin; version = arch = ""}' \
          >>"$work/origins" || true
    done
    printf '%s\n' "$state" >"$work/origins-state"
  fi
  exec {lock}>&-
}

# Origin, suite and component, from the signed Release file beside the list; else the address in the list's name.
origin_of() { # LIST
  local file=${1##*/} release component text=''
  release=/var/lib/apt/lists/${file%%_binary-*}
  component=${release##*_}
  for release in "${release%_*}_InRelease" "${release%_*}_Release"; do
    [[ -z $text && -e $release ]] || continue
    text=$(awk -v component="$component" '/^Origin:/ {sub(/^Origin: */, ""); origin = $0} /^Codename:/ {suite = $2}
      /^Suite:/ && !suite {suite = $2} /^(MD5Sum|SHA256):/ {exit}
      END {if (origin && suite) print origin, suite, component}' "$release")
  done
  file=${file%%_Packages*}
  printf '%s\n' "${text:-${file//_//}}"
}

main "$@"
