# shellcheck shell=bash
# The repositories that dsimg serves to the machine while it is built: all that they give is kept for the lock. Sourced;
# needs bash. Where `DSIMG_MIRROR` is not set there are none, and every address stays as it is.

# `through_mirror KIND URL`: the address under which dsimg serves what is at URL. KIND: `pypi` for a Python package index,
# `cran` for an R repository, `file` for anything else.
through_mirror() {
  if [[ -z ${DSIMG_MIRROR:-} || $2 == "$DSIMG_MIRROR"/* || ! $2 =~ ^https?:// ]]; then
    printf '%s\n' "$2"
  else
    printf '%s/%s/%s\n' "$DSIMG_MIRROR" "$1" "${2/:\/\///}"
  fi
}

# apt asks dsimg's proxy for what is at `http://…`; TLS would lead past it. So a copy of each sources file with `https://` is
# bound over it, which says `http://HTTPS///…`: the proxy knows that form. The file on the disk stays as it is.
lead_sources_through_mirror() {
  [[ -n ${DSIMG_MIRROR:-} ]] || return 0
  local file copy
  mkdir -p /run/dsimg/apt
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [[ -s $file ]] && grep -qE '^[^#]*https://' "$file" || continue
    copy=/run/dsimg/apt/${file##*/}
    # Not in a line of its own key, comment or option: addresses stand after a type, or after `URIs:`.
    sed -E '/^[[:space:]]*#/!s#([[:space:]])https://#\1http://HTTPS///#g' "$file" >"$copy"
    mount --bind "$copy" "$file"
  done
}

# Before a sources file is written: what lies over it goes.
release_source() { # FILE
  if mountpoint -q "$1" 2>/dev/null; then umount "$1"; fi
}
