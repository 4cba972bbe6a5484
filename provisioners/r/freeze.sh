#!/usr/bin/env bash
# Lists R packages: ecosystem, name, version, architecture (empty), origin, 1 if asked for.
#
# Read from the DESCRIPTION files, without starting R. Those that belong to R itself are left out; those that came
# as Debian packages are listed with the origin `deb`.
set -euo pipefail
shopt -s nullglob
export LC_ALL=C

main() {
  local library libraries=(/usr/local/lib/R/site-library /usr/lib/R/site-library /usr/lib/R/library)
  for library in /opt/*/lib/R/library /usr/local/lib/R/library; do libraries+=("$library"); done
  while read -r library; do libraries+=("$library"); done < <(named_libraries)
  for library in "${libraries[@]}"; do list_packages "$library"; done | sort -u
}

# Libraries that this build's stages name elsewhere.
named_libraries() { cat /var/cache/dsimg/r-libraries 2>/dev/null || true; }

list_packages() { # LIBRARY
  local files=("$1"/*/DESCRIPTION) place=repository
  ((${#files[@]})) || return 0
  [[ $1 != /usr/lib/R/* ]] || place=deb
  { cat /var/cache/dsimg/r-requested 2>/dev/null || true; } | awk -v place="$place" '
    function end(   origin) {
      if (name == "" || field["Priority"] == "base") return
      origin = place
      if (place != "deb") {
        if (field["RemoteType"] == "github")
          origin = "github:" field["RemoteUsername"] "/" field["RemoteRepo"] "@" field["RemoteSha"]
        else if (field["biocViews"]) origin = "bioc"
        else if (field["Repository"]) origin = field["Repository"]
      }
      print "cran\t" name "\t" field["Version"] "\t\t" origin "\t" ((name in asked) + 0)
    }
    FILENAME == "-" {asked[$1] = 1; next}
    FNR == 1 {end(); name = ""; split("", field)}
    /^[A-Za-z]+:/ {
      key = $1
      sub(/:$/, "", key)
      if (key == "Package") name = $2
      else if (key ~ /^(Version|Priority|Repository|Remote(Type|Username|Repo|Sha))$/) field[key] = $2
      else if (key == "biocViews") field[key] = 1
    }
    END {end()}' - "${files[@]}"
}

main
