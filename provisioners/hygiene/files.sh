# shellcheck shell=bash
# Removing files, for the other parts of the hygiene stage. Sourced; needs bash with nullglob and dotglob.
#
# Bash looks for itself whether there is anything to do: in an emulated machine each program that is started
# takes some 20 ms, and most of the paths named here are not there.

# `remove PATH…`: files and folders, those that are there.
remove() {
  local path there=()
  for path in "$@"; do
    if [[ -e $path || -L $path ]]; then there+=("$path"); fi
  done
  if ((${#there[@]})); then rm -rf --one-file-system -- "${there[@]}"; fi
}

# `wipe PATH…`: like `remove`, but what the files hold is overwritten first. A file system gives back only whole
# runs of blocks, so that the content of small files may otherwise stay in the image's raw bytes.
wipe() {
  local path files=()
  for path in "$@"; do
    if [[ -f $path && ! -L $path ]]; then files+=("$path"); fi
  done
  if ((${#files[@]})); then shred --iterations=0 --zero -- "${files[@]}"; fi
  remove "$@"
}

# `empty_folder FOLDER…`: removes all that is in them; the folders stay, whose owner and mode services count on.
empty_folder() {
  local folder content=()
  for folder in "$@"; do
    if [[ -d $folder && ! -L $folder ]]; then content+=("$folder"/*); fi
  done
  remove "${content[@]}"
}

# `remove_in_homes PATH…`: relative to each account's home.
remove_in_homes() {
  local home path paths=()
  for home in "${homes[@]}"; do
    for path in "$@"; do paths+=("$home/$path"); done
  done
  remove "${paths[@]}"
}

# Sets `homes`: those of all accounts, once each; not the system folders that stand in for one.
find_homes() {
  local home
  declare -A found=()
  while IFS=: read -r _ _ _ _ _ home _; do
    case $home in
      / | /bin | /dev | /proc | /run/* | /usr/* | '') ;;
      *) if [[ -d $home ]]; then found[$home]=1; fi ;;
    esac
  done < <(getent passwd)
  homes=("${!found[@]}")
}

# `has_line_with TEXT FILE`
has_line_with() { [[ -f $2 && $(<"$2") == *"$1"* ]]; }

has_account() { [[ $'\n'$(</etc/passwd) == *$'\n'"$1":* ]]; }
