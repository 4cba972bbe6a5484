#!/usr/bin/env bash
# Makes the virtual environment where it is missing, and installs into it.
set -euo pipefail
. common/messages.sh
. common/network.sh
. common/mirror.sh
. ./params.sh

uv=$DSIMG_TOOLS/uv
# On the disk, beside the environment: its files are links to the cache's, so that nothing is written twice.
# In memory, a few large wheels would fill the machine.
cache=/var/cache/dsimg
log=$PWD/uv.log

main() {
  check_parameters
  set_up_uv
  make_environment
  install_packages
  compile_modules
  check_environment
  let_group_write
  report
}

check_parameters() {
  [[ $venv == /?* ]] || fail "\`venv\` is \`$venv\`" 'give an absolute path, such as `/opt/venv`'
  local name
  for name in "${packages[@]}"; do
    [[ $name =~ ^[A-Za-z0-9] && $name != *$'\n'* ]] ||
      fail "\`$name\` is no package" 'options go into a requirements file; an index into `index` or `extra_indexes`'
  done
  [[ -n $pyproject || ${#extras[@]} -eq 0 && ${#groups[@]} -eq 0 ]] ||
    fail '`extras` and `groups` belong to a `pyproject`, and none is given'
  [[ -z $writable_by ]] || getent group "$writable_by" >/dev/null ||
    fail "there is no group \`$writable_by\` in the machine" 'make it in an earlier `shell` stage: groupadd …'
  [[ -x $uv ]] || fail "uv is not in the machine (\`$uv\`)" 'this is a fault of dsimg: please report it'
}

set_up_uv() {
  mkdir -p "$cache/uv"
  trap 'rm -rf "$cache/uv"' EXIT
  export UV_CACHE_DIR=$cache/uv UV_LINK_MODE=hardlink UV_NO_PROGRESS=1 NO_COLOR=1 UV_HTTP_TIMEOUT=120
  export UV_PYTHON_DOWNLOADS=never UV_NO_MANAGED_PYTHON=1 UV_VENV_SEED=1
  # Two file systems can't share files by links.
  [[ $(file_system "$venv") == $(file_system "$cache") ]] || export UV_LINK_MODE=copy
  # Without certificates from the template, those that the machine trusts, if it has any.
  if [[ -z ${SSL_CERT_FILE:-} && -s /etc/ssl/certs/ca-certificates.crt ]]; then export UV_SYSTEM_CERTS=1; fi
  # By environment: an address may hold a password, and the command line is for all to see.
  if [[ -n $index ]]; then UV_DEFAULT_INDEX=$(through_mirror pypi "$index") && export UV_DEFAULT_INDEX; fi
  if ((${#extra_indexes[@]})); then
    local extra served=()
    for extra in "${extra_indexes[@]}"; do served+=("$(through_mirror pypi "$extra")"); done
    export UV_INDEX="${served[*]}"
  fi
}

# The number of the file system that holds the path, or will.
file_system() { # PATH
  local path=$1
  while [[ ! -e $path ]]; do path=$(dirname "$path"); done
  stat -c %d "$path"
}

make_environment() {
  if [[ -e $venv/pyvenv.cfg && -x $venv/bin/python ]]; then
    check_same_python
    return 0
  fi
  # One that was half made when the stage was cut off is made again; a folder of something else is left alone.
  [[ ! -e $venv || -e $venv/pyvenv.cfg || -z $(ls -A "$venv" 2>/dev/null) ]] ||
    fail "\`$venv\` exists and is no virtual environment" 'choose another `venv`'
  local options=(--clear)
  [[ $system_site_packages == false ]] || options+=(--system-site-packages)
  options+=(--python "$(chosen_python)") || exit 1
  say "making the virtual environment $venv"
  run_uv venv "${options[@]}" "$venv" || explain_failure "cannot make the virtual environment \`$venv\`"
}

# The path of the interpreter that `python` asks for.
chosen_python() {
  local found
  if [[ -z $python ]]; then
    found=$(command -v python3) || fail 'there is no Python in the machine' \
      'put `python3` into the `packages` of an `apt` stage before this one'
    printf '%s' "$found"
    return 0
  fi
  "$uv" python find --system "$python" 2>>"$log" && return 0
  fail "there is no Python \`$python\` in the machine; it has $(installed_pythons)" \
    'install it in a stage before this one, or leave `python` out to take the system'"'"'s own'
}

installed_pythons() {
  local versions
  versions=$("$uv" python list --only-installed 2>/dev/null |
    awk '{split($1, part, "-"); if (!seen[part[2]]++) {printf "%s%s (%s)", sep, part[2], $2; sep = ", "}}')
  printf '%s' "${versions:-none}"
}

check_same_python() {
  [[ -n $python ]] || return 0
  local has
  has=$("$venv/bin/python" -c 'import platform; print(platform.python_version())')
  [[ $python == /* || $python =~ [^0-9.] || $has == "$python" || $has == "$python".* ]] ||
    fail "\`$venv\` was made with Python $has, and the stage asks for $python" \
      'leave `python` out here, or choose another `venv`'
}

install_packages() {
  local options=() file
  # uv takes a lock by itself: what is asked for besides must not change it.
  if [[ -n $pylock ]]; then install --requirements "$pylock"; fi
  if ((${#packages[@]})); then
    (umask 077 && printf '%s\n' "${packages[@]}" >packages.txt)
    options+=(--requirements packages.txt)
  fi
  for file in "${requirements[@]}" ${pyproject:+"$pyproject"}; do options+=(--requirements "$file"); done
  # An environment alone may be all that is wanted.
  ((${#options[@]})) || return 0
  for file in "${constraints[@]}"; do options+=(--constraints "$file"); done
  for file in "${extras[@]}"; do options+=(--extra "$file"); done
  for file in "${groups[@]}"; do options+=(--group "$pyproject:$file"); done
  install "${options[@]}"
}

install() { # OPTION…
  local before
  before=$(marked_packages)
  run_uv pip install --python "$venv/bin/python" "$@" || explain_failure 'pip packages were not installed'
  unmark_pulled_in "$before" "$@"
}

# The metadata folders of what is marked as asked for by name.
marked_packages() {
  find "$venv"/lib/python*/site-packages -maxdepth 2 -path '*.dist-info/REQUESTED' -printf '%h\n' | sort
}

# uv marks all that it installs. What it would install without dependencies is what was asked for; the rest loses the
# mark, so that the manifest can tell the two apart.
unmark_pulled_in() { # MARKED-BEFORE OPTION…
  local before=$1 asked folder name
  shift
  asked=$("$uv" pip install --dry-run --no-deps --reinstall --offline --python "$venv/bin/python" "$@" 2>&1 </dev/null |
    sed -nE 's/^ [+~] ([^= @]+).*/\1/p') && [[ -n $asked ]] || return 0
  while read -r folder; do
    name=${folder##*/}
    name=$(tr 'A-Z_.' 'a-z--' <<<"${name%%-*}")
    grep -qxF -- "$name" <<<"$asked" && continue
    rm "$folder/REQUESTED"
    sed -i '/\.dist-info\/REQUESTED,/d' "$folder/RECORD"
  done < <(comm -13 <(printf '%s\n' "$before") <(marked_packages))
}

run_uv() {
  "$uv" "$@" </dev/null 2>&1 | tee "$log" | grep --line-buffered -v '^Activate with:'
  return "${PIPESTATUS[0]}"
}

# uv has said what is wrong just before this; the hints say what to do in the template.
explain_failure() {
  printf 'error: %s\n' "$1" >&2
  explain_network_failure "$log" pip || true
  if grep -qE 'Failed to build|build backend|No such file or directory: .?(gcc|cc|x86_64-linux-gnu-gcc)' "$log"; then
    hint 'a package without a wheel for this Python has to be built: put `build-essential`, `python3-dev` and the' \
      'libraries it needs into an `apt` stage before this one'
  fi
  if grep -q 'No solution found' "$log"; then
    hint 'change the versions in `packages`, or the `python` of the environment'
  fi
  if grep -qi 'No space left on device' "$log"; then
    hint "the image's disk is full: raise \`disk\` of the \`[[builder]]\`"
  fi
  exit 1
}

# uv's own workers share modules by chance, and some come out otherwise then.
compile_modules() {
  [[ $compile == true ]] || return 0
  local folder count
  for folder in "$venv"/lib/python*/site-packages; do
    count=$("$venv/bin/python" -S ./bytecode.py "$folder") || fail "modules in \`$folder\` were not compiled" \
      'if the disk is full, raise `disk` of the `[[builder]]`'
    say "compiled $count modules"
  done
}

check_environment() {
  [[ $check == true ]] || return 0
  "$uv" pip check --quiet --python "$venv/bin/python" </dev/null && return 0
  fail "the packages in \`$venv\` don't fit each other" \
    'a later stage may have replaced what an earlier one needs: install both in one stage, or set `check = false`'
}

# New files in these folders belong to the group too.
let_group_write() {
  [[ -n $writable_by ]] || return 0
  chgrp -R -- "$writable_by" "$venv"
  chmod -R g+rwX "$venv"
  find "$venv" -type d -exec chmod g+s {} +
}

report() {
  # For the freeze; hygiene removes it.
  printf '%s\n' "$venv" >>"$cache/venvs"
  # uv's marks: backups must not take the environment for a cache.
  rm -f "$venv/.lock" "$venv/CACHEDIR.TAG"
  local count
  count=$(find "$venv"/lib/python*/site-packages -maxdepth 1 -name '*.dist-info' | wc -l)
  say "$venv: $("$venv/bin/python" --version), $count packages, $(du -sh "$venv" | cut -f1)"
}

main
