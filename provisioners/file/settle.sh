#!/usr/bin/env bash
# Writes `content`, and gives owner and mode to what this stage put into the machine. The files of `source` are at
# their places already; `source_files` names them all.
set -euo pipefail
. common/messages.sh
source_files=()
. ./params.sh
# The deepest folder above `content` that was there before; empty for uploads.
oldest_folder=''

main() {
  check_parameters
  [[ -z $fetch ]] || check_fetch
  [[ -n $destination ]] || exit 0
  if [[ -z $source ]]; then write_content; fi
  settle_files
  settle_folders
}

check_parameters() {
  local kinds=()
  [[ -z $source ]] || kinds+=('`source`')
  [[ -z $content ]] || kinds+=('`content`')
  [[ -z $fetch ]] || kinds+=('`fetch`')
  case ${#kinds[@]} in
    1) ;;
    0) fail 'the stage moves nothing' 'give one of `source`, `content` and `fetch`' ;;
    *) fail "the stage has $(listed "${kinds[@]}")" 'give one of them, and the others stages of their own' ;;
  esac
  if [[ -n $fetch ]]; then
    [[ -z $destination ]] || fail '`destination` is a place in the machine, and `fetch` brings a file out of it' \
      'name the file with `to`'
  else
    [[ $destination == /* ]] || fail "\`destination\` is \`$destination\`" 'give an absolute path in the machine'
    [[ -z $to ]] || fail '`to` belongs to `fetch`' 'the place in the machine is `destination`'
  fi
  check_mode mode "$mode"
  check_mode folder_mode "$folder_mode"
  check_owner
}

check_mode() { # KEY VALUE
  [[ -z $2 || $2 =~ ^0?[0-7]{3,4}$ ]] || fail "\`$1\` is \`$2\`" 'write an octal mode, such as "0644"'
}

check_owner() {
  [[ $owner =~ ^[0-9]+$ ]] || getent passwd -- "$owner" >/dev/null ||
    fail "there is no user \`$owner\` in the machine" 'make it in an earlier stage: useradd …'
  [[ -z $group || $group =~ ^[0-9]+$ ]] || getent group -- "$group" >/dev/null ||
    fail "there is no group \`$group\` in the machine" 'make it in an earlier stage: groupadd …'
  if [[ -z $group ]]; then
    group=$(id -g -- "$owner" 2>/dev/null) || fail "user $owner has no group of its own" 'give `group` too'
  fi
}

check_fetch() {
  [[ $fetch == /* ]] || fail "\`fetch\` is \`$fetch\`" 'give an absolute path in the machine'
  [[ -e $fetch ]] || fail "there is no \`$fetch\` in the machine"
}

# Whole or not at all, and never readable for more than `mode` allows.
write_content() {
  [[ $destination != */ ]] || fail "\`destination\` is the folder \`$destination\`" 'name the file that gets `content`'
  [[ ! -d $destination ]] || fail "\`$destination\` is a folder in the machine" 'name a file'
  local new
  oldest_folder=$(dirname -- "$destination")
  while [[ ! -d $oldest_folder ]]; do oldest_folder=$(dirname -- "$oldest_folder"); done
  mkdir -p -- "$(dirname -- "$destination")"
  new=$(mktemp -- "$(dirname -- "$destination")/.dsimg-XXXXXX")
  printf '%s' "$content" >"$new"
  chmod -- "${mode:-0644}" "$new"
  mv -fT -- "$new" "$destination"
  source_files=("$destination")
}

settle_files() {
  local file
  for file in "${source_files[@]}"; do
    if [[ -L $file ]]; then
      chown -h -- "$owner:$group" "$file"
    elif [[ -f $file ]]; then
      chown -- "$owner:$group" "$file"
      # After chown, which takes set-user-id bits away.
      if [[ -n $mode ]]; then chmod -- "$mode" "$file"; fi
    fi
  done
  say "$destination: ${#source_files[@]} $([[ ${#source_files[@]} == 1 ]] && echo entry || echo entries)," \
    "$owner:$(getent group -- "$group" | cut -d: -f1)"
}

# Folders that had to be made, up to the first that was there before: that one and what is above stay as they are.
settle_folders() {
  local file folder
  declare -A seen=()
  for file in "${source_files[@]}"; do
    folder=$file
    [[ -d $file && ! -L $file ]] || folder=$(dirname -- "$file")
    while [[ -z ${seen[$folder]:-} ]] && is_new "$folder"; do
      seen[$folder]=1
      chown -- "$owner:$group" "$folder"
      chmod -- "$folder_mode" "$folder"
      folder=$(dirname -- "$folder")
    done
  done
}

# Made by this stage: below the folder that `content` found there; for uploads, which came before this script, born
# no earlier than the stage's own folder, and no package's. File systems without a birth time say 0.
is_new() { # FOLDER
  if [[ -n $oldest_folder ]]; then
    [[ $oldest_folder != "$1" && $oldest_folder/ != "${1%/}/"* ]]
  else
    (($(stat -c %W -- "$1") >= $(stat -c %Z ./params.sh))) && ! dpkg-query -S -- "$1" >/dev/null 2>&1
  fi
}

main
