# shellcheck shell=bash
# What scripts say to people. Sourced first; needs bash.

# A command that fails where the script did not expect it ends the script (`set -e`), and never in silence.
set -E
trap 'printf "error: %s, line %s: \`%s\` ended with %s\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" "$?" >&2' ERR

# One line of progress.
say() { printf '%s\n' "$*"; }

# Something that went another way than asked, and is no failure.
warn() { printf 'warning: %s\n' "$*" >&2; }

# What to do about a failure, in one line.
hint() { printf 'hint: %s\n' "$*" >&2; }

# Ends the script: what failed and why, then a line for each further argument: what to do next.
fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  local advice
  for advice in "$@"; do hint "$advice"; done
  exit 1
}

# The arguments as a list in one line: a, b, c
listed() {
  local text='' item
  for item in "$@"; do text+="${text:+, }$item"; done
  printf '%s' "$text"
}

# `one_of VALUE CHOICE…`: whether the value is among the choices.
one_of() {
  local value=$1 choice
  shift
  for choice in "$@"; do [[ $value == "$choice" ]] && return 0; done
  return 1
}
