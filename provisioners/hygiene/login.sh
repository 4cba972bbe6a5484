# shellcheck shell=bash disable=SC2154  # build_user comes from params.sh, homes from find_homes
# The build's way into the machine. Sourced by clean.sh.

# H3: the public keys that the first boot was given, wherever they went. Keys that the template put there stay.
remove_build_keys() {
  local home file
  build_keys >/run/dsimg/build-keys
  for home in "${homes[@]}"; do
    for file in "$home"/.ssh/authorized_keys{,2}; do
      remove_key_lines "$file"
      # cloud-init makes one for root, too, without a key in it.
      if [[ -f $file && ! -s $file ]]; then rm -f "$file"; fi
    done
    if [[ -d $home/.ssh ]]; then rmdir --ignore-fail-on-non-empty "$home/.ssh"; fi
  done
  rm -f /run/dsimg/build-keys
}

# The keys' own part, without type, options and comment: cloud-init adds options of its own for root.
build_keys() {
  local files=(/run/credentials/@system/dsimg.first-boot
    /var/lib/cloud/instance/{user-data,vendor-data,cloud-config}.txt /run/cloud-init/instance-data-sensitive.json)
  cat "${files[@]}" 2>/dev/null | sed -E 's/(ssh-ed25519|ssh-rsa|ecdsa-sha2-[a-z0-9]+) +AAAA/\nKEY AAAA/g' |
    awk '/^KEY / {sub(/[^A-Za-z0-9+\/=].*/, "", $2); if (!seen[$2]++) print $2}' || true
}

remove_key_lines() { # FILE
  local left
  has_line_with AAAA "$1" || return 0
  left=$(grep -vFf /run/dsimg/build-keys "$1" || true)
  [[ $left != "$(<"$1")" ]] || return 0
  shred --iterations=0 --zero -- "$1"
  # Written through, so that the file keeps its owner and mode.
  printf '%s\n' "$left" >"$1"
  if [[ ! $left =~ [^[:space:]] ]]; then rm -f "$1"; fi
}

# H9: the account, its home, group and sudo rule, when it was made for the build and not part of the base.
remove_build_login() {
  [[ -n $build_user && $build_user != root ]] || return 0
  remove_sudo_rule
  has_account "$build_user" || return 0
  if ! was_made_for_the_build; then
    say "the login $build_user belongs to the base and stays"
    return 0
  fi
  # Forced: this very script was started from that account's session, which goes on to its end.
  userdel --force --remove -- "$build_user" 2>/dev/null || true
  ! has_account "$build_user" || fail "cannot remove the build's login \`$build_user\`"
  remove "/var/lib/systemd/linger/$build_user" "/var/spool/cron/crontabs/$build_user"
  say "removed the build's login $build_user"
}

# cloud-init's log tells an account that it made from one that it found.
was_made_for_the_build() {
  [[ $build_user == dsimg ]] || grep -qs -- "Adding user $build_user\$" /var/log/cloud-init.log
}

# cloud-init writes one rule for each of its users; it writes them anew at the image's own first boot.
remove_sudo_rule() {
  local file=/etc/sudoers.d/90-cloud-init-users text
  [[ -f $file ]] || return 0
  text=$(awk -v user="$build_user" '$1 != user && $0 != "# User rules for " user' "$file")
  if [[ $'\n'$text =~ $'\n'[^#$'\n'] ]]; then
    printf '%s\n' "$text" >"$file"
  else
    rm -f "$file"
  fi
}

# H5
remove_known_hosts() { remove_in_homes .ssh/known_hosts .ssh/known_hosts.old; }

# H6
remove_histories() {
  remove_in_homes .bash_history .zsh_history .ash_history .python_history .Rhistory .psql_history .mysql_history \
    .sqlite_history .node_repl_history .lesshst .viminfo .wget-hsts .sudo_as_admin_successful .rediscli_history
}

# H10: what the account tools leave beside their files; it may hold hashes of passwords that were replaced.
remove_account_backups() { remove /etc/{passwd,shadow,group,gshadow,subuid,subgid}-; }
