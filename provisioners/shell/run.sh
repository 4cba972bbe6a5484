#!/usr/bin/env bash
# Runs the user's commands and scripts.
set -euo pipefail
. common/messages.sh
. ./params.sh

folder=$PWD

main() {
  check_parameters
  local programs=() names=() last i
  if ((${#inline[@]})); then
    write_inline
    programs+=("$folder/inline") names+=('the inline script')
  fi
  for program in ${script:+"$script"} "${scripts[@]}"; do
    prepare_script "$program"
    programs+=("$program") names+=("\`${program##*/}\`")
  done
  hand_to_user "${programs[@]}"
  last=$((${#programs[@]} - 1))
  for i in "${!programs[@]}"; do
    run_program "${programs[i]}" "${names[i]}"
    settle_reboot "${names[i]}" "$((i == last))"
  done
}

check_parameters() {
  ((${#inline[@]} + ${#scripts[@]})) || [[ -n $script ]] ||
    fail 'the stage runs nothing' 'give `inline`, `script` or `scripts`'
  local name
  for name in "${!env[@]}"; do
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || fail "\`$name\` can't be the name of an environment variable"
  done
  ((${#exit_codes[@]})) || fail '`exit_codes` is empty' 'name at least one, such as 0'
  [[ -z $user ]] || getent passwd -- "$user" >/dev/null ||
    fail "there is no user \`$user\` in the machine" 'make it in an earlier stage: useradd …'
  directory=${directory:-$(home_of "${user:-root}")}
  [[ -d $directory ]] || fail "there is no directory \`$directory\` in the machine" 'make it in an earlier stage'
}

home_of() { getent passwd -- "$1" | cut -d: -f6; }

# One script, so that a variable or a `cd` lasts from line to line. A `#!` line of its own is honoured.
write_inline() {
  # Removed first: a second try finds the first one's file, which may belong to the user by now.
  rm -f "$folder/inline"
  (
    umask 077
    [[ ${inline[0]} == '#!'* ]] || printf '#!/bin/bash\nset -e\n'
    printf '%s\n' "${inline[@]}"
  ) >"$folder/inline"
  chmod 700 "$folder/inline"
}

prepare_script() { # FILE
  [[ -f $1 ]] || fail "\`${1##*/}\` is a folder" 'name script files'
  if [[ $(head -n 1 "$1" | tr -d '\0') == '#!'*$'\r' ]]; then
    fail "\`${1##*/}\` has Windows line ends, and the machine would not find what its \`#!\` line names" \
      'save it with Unix line ends, or convert it with dos2unix'
  fi
  chmod 700 "$1"
}

# Only root and the user may read the scripts: rendered ones may hold secrets.
hand_to_user() { # FILE…
  [[ -n $user ]] || return 0
  chown -- "$user" "$@"
  if [[ -d $folder/uploads ]]; then find "$folder/uploads" -type d -exec chmod 711 {} +; fi
}

run_program() { # FILE NAME
  local status=0 code
  # A shell of its own: exported here, not given as arguments, because values may be secret. The detour of stderr
  # keeps bash from printing this text when the script is killed.
  { (
    exec 2>&3 3>&-
    for name in "${!env[@]}"; do export "$name=${env[$name]}"; done
    cd -- "$directory" || exit 1
    exec 0</dev/null
    become_user
    if [[ $(head -c 2 "$1") == '#!' ]]; then set -- "$1" "${args[@]}"; else set -- bash "$1" "${args[@]}"; fi
    exec "${as_user[@]}" "$@"
  ) || status=$?; } 3>&2 2>/dev/null
  for code in "${exit_codes[@]}"; do ((status != code)) || return 0; done
  # Ended by the reboot that it asked for.
  if [[ $reboots == true && ($status == 143 || $status == 129) ]] && is_going_down; then return 0; fi
  if ((status > 128 && status < 193)) && [[ $(kill -l "$((status - 128))" 2>/dev/null) =~ ^[A-Z] ]]; then
    fail "$2 was ended by SIG$(kill -l "$((status - 128))") (status $status)" \
      'SIGKILL often means that memory ran out: raise `memory` of the `[[builder]]`'
  fi
  fail "$2 ended with exit code $status (accepted: $(listed "${exit_codes[@]}"))"
}

# Sets the login's basic variables and how to get there: `as_user`, empty for root.
become_user() {
  as_user=()
  [[ -n $user ]] || return 0
  local entry
  entry=$(getent passwd -- "$user")
  IFS=: read -r USER _ _ _ _ HOME SHELL <<<"$entry"
  LOGNAME=$USER
  export USER LOGNAME HOME SHELL
  as_user=(setpriv --reuid "$USER" --regid "$(id -g -- "$USER")" --init-groups)
}

# `reboot` returns at once and the machine goes down a little later. Said here, before what follows fails in the
# middle. With `reboots`, ending well is enough: dsimg waits for the machine's next boot.
settle_reboot() { # NAME IS_LAST
  is_going_down || return 0
  [[ $reboots == true ]] ||
    fail "$1 reboots the machine" 'set `reboots = true` to have the build wait for it and go on'
  [[ $2 == 1 ]] ||
    fail "$1 reboots the machine, and the scripts after it would not run" 'put them into a stage of their own'
  say 'the machine is rebooting'
  exit 0
}

is_going_down() {
  [[ -d /run/systemd/system ]] || return 1
  [[ -e /run/systemd/shutdown/scheduled || $(systemctl is-system-running 2>/dev/null) == stopping ]] ||
    systemctl list-jobs --no-legend 2>/dev/null | grep -qE ' (reboot|shutdown|poweroff|kexec)\.target '
}

main
