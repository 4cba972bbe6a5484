# shellcheck shell=bash
# Removing files, for the other parts of the hygiene stage. Sourced; needs bash with nullglob and dotglob.

# `empty_folder FOLDER…`: removes all that is in them, on their own file system; the folders stay, whose owner and
# mode their services count on.
empty_folder() {
  local folder
  for folder in "$@"; do
    [[ ! -d $folder || -L $folder ]] || find "$folder" -xdev -mindepth 1 -delete 2>/dev/null || true
  done
}

# The homes of all accounts, once each, of those that exist.
homes() {
  getent passwd | cut -d: -f6 | sort -u | while read -r home; do
    if [[ -d $home && $home != / ]]; then printf '%s\n' "$home"; fi
  done
}

# `remove_in_homes PATH…`: relative to each home.
remove_in_homes() {
  local home path
  while read -r home; do
    for path in "$@"; do rm -rf -- "${home:?}/${path:?}"; done
  done < <(homes)
}
