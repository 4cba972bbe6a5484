#!/usr/bin/env bash
# Lists Python packages outside of dpkg: ecosystem, name, version, architecture (empty), origin, 1 if asked for.
set -euo pipefail
shopt -s nullglob
export LC_ALL=C

main() {
  local venv folder
  {
    while read -r venv; do
      for folder in "$venv"/lib/python*/site-packages; do list_packages "$folder" "venv:$venv"; done
    done < <(environments | sort -u)
    # `pip install --break-system-packages` and the like; /usr/lib/python3 itself belongs to dpkg.
    for folder in /usr/local/lib/python*/{dist,site}-packages; do list_packages "$folder" "system:$folder"; done
  } | sort
}

# Where virtual environments are kept, and those that this build's stages name elsewhere.
environments() {
  find /opt /srv /usr/local /usr/share /home /root /var/lib -xdev -maxdepth 5 \
    \( -name site-packages -o -name node_modules -o -name .cache -o -path /var/lib/dpkg \) -prune \
    -o -name pyvenv.cfg -printf '%h\n' 2>/dev/null || true
  cat /var/cache/dsimg/venvs 2>/dev/null || true
}

# From the packages' own metadata. `REQUESTED` marks what was asked for by name.
list_packages() { # FOLDER ORIGIN
  local metadata=("$1"/*.dist-info/METADATA "$1"/*.egg-info/PKG-INFO) asked=("$1"/*.dist-info/REQUESTED)
  ((${#metadata[@]})) || return 0
  # The names of the markers come first, as awk's standard input.
  printf '%s\n' "${asked[@]}" | awk -v origin="$2" '
    function end() {
      if (name == "") return
      # The normal form of a name: PyPA specification, "Name normalization".
      name = tolower(name)
      gsub(/[-_.]+/, "-", name)
      marker = file
      sub(/METADATA$/, "REQUESTED", marker)
      print "pypi\t" name "\t" version "\t\t" origin "\t" ((marker in asked) + 0)
      name = version = ""
    }
    FILENAME == "-" {asked[$0] = 1; next}
    FNR == 1 {end(); file = FILENAME}
    /^Name:/ && name == "" {name = $2; sub(/\r$/, "", name)}
    /^Version:/ && version == "" {version = $2; sub(/\r$/, "", version)}
    name != "" && version != "" {nextfile}
    END {end()}' - "${metadata[@]}"
}

main
