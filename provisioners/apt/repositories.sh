# shellcheck shell=bash disable=SC2154  # repositories_* come from params.sh
# Package sources in deb822 form, each bound to its own key by `Signed-By`. Sourced by install.sh.

KEYRINGS=/etc/apt/keyrings
SOURCES=/etc/apt/sources.list.d
KEYSERVER='https://keyserver.ubuntu.com/pks/lookup?op=get&options=mr&search=0x'

check_repositories() {
  local i text
  for ((i = 0; i < repositories_count; i++)); do
    [[ ${repositories_name[i]} =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
      fail "\`${repositories_name[i]}\` can't name a repository" 'use letters, digits, `.`, `_` and `-`'
    for text in "${repositories_uri[i]}" "${repositories_suite[i]}"; do
      [[ -n $text && $text != *[[:space:]]* ]] ||
        fail "repository \`${repositories_name[i]}\`: \`$text\` can't be a URI or a suite"
    done
    [[ -z ${repositories_key_url[i]} || -n ${repositories_fingerprint[i]} ]] ||
      fail "repository \`${repositories_name[i]}\` has \`key_url\` without \`fingerprint\`" \
        'whoever can change the download could sign packages: give the fingerprint, or keep the key in a file with `key`'
    [[ ! ${repositories_uri[i]} =~ ://[^/]*@ || ${repositories_keep[i]} == false ]] ||
      fail "repository \`${repositories_name[i]}\` has a password in its URI, which would stay in the image" \
        'set `keep = false` to take the repository out again when the stage ends'
  done
}

add_repositories() {
  local i
  for ((i = 0; i < repositories_count; i++)); do add_repository "$i"; done
}

add_repository() { # INDEX
  local i=$1 name=${repositories_name[$1]} suite=${repositories_suite[$1]} keyring components
  install -d -m 755 "$KEYRINGS" "$SOURCES" "$APT_WORK"
  keyring=$(place_key "$i") || exit 1
  components=${repositories_components[i]//$'\n'/ }
  release_source "$SOURCES/$name.sources"
  {
    printf 'Types: deb\nURIs: %s\nSuites: %s\n' "${repositories_uri[i]}" "$suite"
    [[ $suite == */ ]] || printf 'Components: %s\n' "${components:-main}"
    [[ -z ${repositories_architectures[i]} ]] ||
      printf 'Architectures: %s\n' "${repositories_architectures[i]//$'\n'/ }"
    printf 'Signed-By: %s\n' "$keyring"
  } >"$SOURCES/$name.sources"
  say "repository $name: ${repositories_uri[i]//:\/\/*@/://…@} $suite, signed by $keyring"
}

# Puts the key where `Signed-By` finds it, checks its fingerprint, and prints its path.
place_key() { # INDEX
  local i=$1 name=${repositories_name[$1]} wanted file
  wanted=${repositories_fingerprint[i]//[[:space:]:]/}
  wanted=${wanted^^}
  wanted=${wanted#0X}
  [[ -z $wanted || $wanted =~ ^([0-9A-F]{40}|[0-9A-F]{64})$ ]] ||
    fail "repository \`$name\`: \`$wanted\` is no key fingerprint" 'it has 40 hex digits (64 for a version 6 key)'
  file=$APT_WORK/key-$i
  if [[ -n ${repositories_key[i]} ]]; then
    cp -- "${repositories_key[i]}" "$file"
  elif [[ -n ${repositories_key_url[i]} ]]; then
    download_key "${repositories_key_url[i]}" "$file" "$name"
  elif [[ -n $wanted ]]; then
    if keyring_with "$wanted"; then return 0; fi
    download_key "$KEYSERVER$wanted" "$file" "$name"
  else
    distribution_keyring "$name"
    return 0
  fi
  check_fingerprint "$file" "$wanted" "$name"
  install_key "$file" "$name"
}

# apt's own downloader is there wherever apt is, and uses the build's proxy and certificates.
download_key() { # URL FILE NAME
  rm -f "$2"
  if ! /usr/lib/apt/apt-helper -o Acquire::Retries=3 download-file "$(through_mirror file "$1")" "$2" >"$APT_WORK/log" 2>&1; then
    sed 's/^/  /' "$APT_WORK/log" >&2
    explain_network_failure "$APT_WORK/log" apt || true
    fail "cannot download the key of repository \`$3\` from \`$1\`"
  fi
}

install_key() { # FILE NAME
  local target=$KEYRINGS/$2.gpg
  if is_armored "$1"; then target=$KEYRINGS/$2.asc; fi
  install -m 644 "$1" "$target"
  printf '%s\n' "$target"
}

is_armored() { grep -aq -e '-----BEGIN PGP PUBLIC KEY BLOCK-----' "$1"; }

# A repository without a key of its own is taken for one of the distribution's, such as its backports.
distribution_keyring() { # NAME
  local file
  for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp} /usr/share/keyrings/ubuntu-archive-keyring.gpg; do
    if [[ -e $file ]]; then printf '%s\n' "$file" && return 0; fi
  done
  fail "repository \`$1\` names no key" 'give `key` (a file), or `key_url` with `fingerprint`'
}

# Prints the keyring of this machine that holds the key.
keyring_with() { # FINGERPRINT
  local file
  for file in "$KEYRINGS"/* /usr/share/keyrings/*; do
    if [[ -f $file ]] && fingerprints_of "$file" 2>/dev/null | grep -qx "$1"; then
      printf '%s\n' "$file" && return 0
    fi
  done
  return 1
}

check_fingerprint() { # FILE WANTED NAME
  local found
  found=$(fingerprints_of "$1" | sort -u | tr '\n' ' ')
  found=${found% }
  [[ -n $found ]] || fail "the key of repository \`$3\` is no OpenPGP public key"
  [[ -z $2 || $found == "$2" ]] || fail "the key of repository \`$3\` has the fingerprint $found, not $2" \
    'do not trust it before you know why it changed'
}

# The fingerprints of a key file's primary keys, one a line. Worked out here, because a minimal image has no gpg:
# a version 4 fingerprint is the SHA-1 of 0x99, the packet's length in two bytes and its body (RFC 9580, 5.5.4),
# a version 6 one the SHA-256 of 0x9B, the length in four bytes and the body.
fingerprints_of() { # FILE
  local version hex
  while read -r version hex; do
    case $version in
      4) unhex "$hex" | sha1sum ;;
      6) unhex "$hex" | sha256sum ;;
    esac | cut -d' ' -f1 | tr a-f A-F
  done < <(binary_key "$1" | primary_keys)
}

binary_key() { # FILE
  if is_armored "$1"; then
    # Between the blank line after the headers and the checksum or the end; a file may hold several blocks.
    tr -d '\r' <"$1" | awk '/^-----BEGIN/ {inside = 1; next} /^-----END/ {inside = body = 0; print ""; next}
      inside && !body {if ($0 ~ /^[ \t]*$/) body = 1; next} body && !/^=/ {printf "%s", $0}' |
      while read -r block; do base64 -d <<<"$block" 2>/dev/null; done
  else
    cat "$1"
  fi
}

unhex() { perl -e 'print pack("H*", shift)' "$1"; }

# Reads OpenPGP packets and prints, for each public key packet (tag 6), its version and what its fingerprint hashes.
primary_keys() {
  perl -e '
    binmode STDIN; local $/; my $data = <STDIN>; my $at = 0;
    sub take { my $n = shift; exit 0 if $at + $n > length $data; my $part = substr($data, $at, $n); $at += $n; $part }
    while ($at < length $data) {
      my $tag = ord take(1);
      exit 0 unless $tag & 0x80;
      my ($type, $size);
      if ($tag & 0x40) {
        $type = $tag & 0x3f;
        my $first = ord take(1);
        if ($first < 192) { $size = $first }
        elsif ($first < 224) { $size = (($first - 192) << 8) + ord(take(1)) + 192 }
        elsif ($first == 255) { $size = unpack "N", take(4) }
        else { exit 0 }
      } else {
        $type = ($tag >> 2) & 0x0f;
        my $bytes = (1, 2, 4, 0)[$tag & 3] or exit 0;
        $size = unpack "N", substr("\0\0\0\0" . take($bytes), -4);
      }
      my $body = take($size);
      next unless $type == 6;
      my $version = ord $body;
      my $prefix = $version == 4 ? pack("Cn", 0x99, $size) : pack("CN", 0x9b, $size);
      print "$version ", unpack("H*", $prefix . $body), "\n";
    }'
}

# Those with `keep = false`, and their lists with them.
remove_passing_repositories() {
  local i
  for ((i = 0; i < repositories_count; i++)); do
    [[ ${repositories_keep[i]} == false ]] || continue
    release_source "$SOURCES/${repositories_name[i]}.sources"
    rm -f "$SOURCES/${repositories_name[i]}.sources" "$KEYRINGS/${repositories_name[i]}."{asc,gpg}
    say "repository ${repositories_name[i]} is taken out again"
  done
}
