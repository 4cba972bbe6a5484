# shellcheck shell=bash
# What a test expects. Each ends the test with a word about what was found instead.

unmet() {
  printf 'expected %s\n' "$*"
  if [[ -n ${OUTPUT:-} ]]; then printf 'the stage ended with %s and said:\n%s\n' "$STATUS" "$OUTPUT"; fi
  exit 1
}

# `expect_done PROVISIONER PARAMETERS`, `expect_refused …`: runs a stage.
expect_done() {
  stage "$@"
  ((STATUS == 0)) || unmet 'the stage to be done'
}

expect_refused() {
  stage "$@"
  ((STATUS != 0)) || unmet 'the stage to fail'
}

expect_said() { # TEXT…
  local text
  for text in "$@"; do [[ $OUTPUT == *"$text"* ]] || unmet "the output to hold: $text"; done
}

expect_unsaid() { # TEXT…
  local text
  for text in "$@"; do [[ $OUTPUT != *"$text"* ]] || unmet "the output not to hold: $text"; done
}

expect_same() { # FOUND WANTED WHAT
  [[ $1 == "$2" ]] || unmet "$3 to be \`$2\`, not \`$1\`"
}

expect_file() { # PATH in the guest
  [[ -e $GUEST$1 || -L $GUEST$1 ]] || unmet "$1 to be there"
}

expect_no_file() { # PATH…
  local path
  for path in "$@"; do [[ ! -e $GUEST$path && ! -L $GUEST$path ]] || unmet "$path not to be there"; done
}

expect_empty() { # FOLDER…
  local folder
  for folder in "$@"; do [[ -z $(ls -A "$GUEST$folder") ]] || unmet "$folder to be empty: $(ls -A "$GUEST$folder")"; done
}

# `expect_owner PATH OWNER:GROUP MODE`, names of the guest.
expect_owner() {
  expect_same "$(in_guest stat -c '%U:%G %a' "$1")" "$2 $3" "owner and mode of $1"
}

# A line of a freeze, with tabs: `expect_frozen TEXT LINE`, where `*` stands for anything.
expect_frozen() {
  local line
  # shellcheck disable=SC2053  # the pattern is meant
  while IFS= read -r line; do [[ $line != $2 ]] || return 0; done <<<"$1"
  unmet "the freeze to have a line like $2"
}
