#!/usr/bin/env bash
# Lists the installed Debian packages: ecosystem, name, version, architecture, origin, 1 if asked for.
set -euo pipefail
export LC_ALL=C

main() {
  local work=/run/dsimg/freeze
  mkdir -p "$work"
  dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n' | grep '^installed' >"$work/debs"
  list_origins "$work"
  automatic_packages >"$work/automatic"
  # In each pass, `pass` says which of the three files a line is from.
  awk -F'\t' -v OFS='\t' '
    pass == 1 {automatic[$1] = 1; next}
    pass == 2 {origin[$1] = $2; next}
    {
      id = $2 "=" $3 ":" $4
      # apt keeps its marks for `all` packages under the native architecture.
      asked = !(($2 ":" $4) in automatic) && !($4 == "all" && ($2 ":" native) in automatic)
      print "deb", $2, $3, $4, origin[id], asked + 0
    }' native="$(dpkg --print-architecture)" pass=1 "$work/automatic" pass=2 "$work/origins" pass=3 "$work/debs" |
    sort
}

# name:architecture of what was pulled in by others.
automatic_packages() {
  local file=/var/lib/apt/extended_states
  [[ -e $file ]] || return 0
  awk '/^Package:/ {name = $2} /^Architecture:/ {arch = $2} /^Auto-Installed:/ {auto = $2}
    /^$/ {if (auto == 1) print name ":" arch; auto = 0} END {if (auto == 1) print name ":" arch}' "$file"
}

# Writes `name=version:architecture<TAB>origin` for what the package lists know, such as "Debian trixie main".
# The lists are large, so it is done again only where they or the installed packages changed.
list_origins() { # FOLDER
  local work=$1 state list
  state=$( (stat -c '%n %s %Y' /var/lib/apt/lists/*_Packages* 2>/dev/null; cat "$work/debs") | md5sum)
  [[ ! -e $work/origins-state || $(<"$work/origins-state") != "$state" ]] || return 0
  cut -f2-4 "$work/debs" | awk -F'\t' '{print $1 "=" $2 ":" $3}' >"$work/wanted"
  : >"$work/origins"
  for list in /var/lib/apt/lists/*_Packages /var/lib/apt/lists/*_Packages.*; do
    [[ -e $list ]] || continue
    # Lines of packages that are not here are left without a look at their fields: there are 200 times as many.
    /usr/lib/apt/apt-helper cat-file "$list" | grep -E '^(Package|Version|Architecture): ' |
      awk -v origin="$(origin_of "$list")" '
        FNR == NR {wanted[$0] = 1; names[substr($0, 1, index($0, "=") - 1)] = 1; next}
        /^P/ {name = substr($0, 10); is_here = name in names; version = arch = ""; next}
        !is_here {next}
        /^V/ {version = substr($0, 10)}
        /^A/ {arch = substr($0, 15)}
        version != "" && arch != "" {
          id = name "=" version ":" arch
          if (id in wanted) print id "\t" origin
          version = arch = ""
        }' "$work/wanted" - >>"$work/origins" || true
  done
  printf '%s\n' "$state" >"$work/origins-state"
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

main
