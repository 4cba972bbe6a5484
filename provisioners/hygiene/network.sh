# shellcheck shell=bash
# `[network] keep`: the build's proxy, certificates and mirrors, left in the image or not. Sourced by clean.sh.

# H22: without `keep` there is nothing to do here: the build keeps all of it below /run, in memory, and binds its
# rewritten apt sources over the image's own.
keep_or_drop_network() {
  release_bound_sources
  [[ $keep_network == true ]] || return 0
  keep_proxy
  keep_certificates
  keep_mirrors
}

# The rewritten apt sources lie over the image's own files as bind mounts; below them the disk is untouched.
release_bound_sources() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    if mountpoint -q "$file" 2>/dev/null; then umount "$file" 2>/dev/null || true; fi
  done
}

keep_proxy() {
  [[ -n ${http_proxy:-} ]] || return 0
  local name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    sed -i "/^$name=/d" /etc/environment 2>/dev/null || true
    if [[ -n ${!name:-} ]]; then printf '%s=%s\n' "$name" "${!name}" >>/etc/environment; fi
  done
  printf 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "%s";\n' "$http_proxy" "${https_proxy:-$http_proxy}" \
    >/etc/apt/apt.conf.d/90proxy
  say 'kept the proxy in /etc/environment and /etc/apt/apt.conf.d/90proxy'
}

# Into the system's own store, one file for each certificate that the store does not have yet.
keep_certificates() {
  local bundle=/run/dsimg/ca.pem folder=/usr/local/share/ca-certificates work=/run/dsimg/certificates
  local store=/etc/ssl/certs/ca-certificates.crt file count=0
  [[ -s $bundle ]] || return 0
  command -v update-ca-certificates >/dev/null ||
    fail 'the image has no `ca-certificates` package to keep certificates in' 'add it to an `apt` stage'
  mkdir -p "$work"
  awk -v work="$work" '/-----BEGIN CERT/ {n++; keep = 1} keep {print > (work "/" n ".crt")}
    /-----END CERT/ {keep = 0; close(work "/" n ".crt")}' "$bundle"
  for file in "$work"/*.crt; do
    # The second line of a certificate's text holds its serial number and signature algorithm; all of it is compared.
    if [[ $(tr -d '\r\n' <"$store" 2>/dev/null) != *"$(tr -d '\r\n' <"$file")"* ]]; then
      cp "$file" "$folder/kept-$(sha256sum "$file" | cut -c1-16).crt"
      count=$((count + 1))
    fi
  done
  rm -rf "$work"
  update-ca-certificates >/dev/null 2>&1
  say "kept $count certificates in $folder"
}

keep_mirrors() {
  local file target
  for file in /run/dsimg/apt-mirror/*; do
    target=/etc/apt/sources.list.d/${file##*/}
    [[ ${file##*/} != sources.list ]] || target=/etc/apt/sources.list
    cat "$file" >"$target"
    say "kept the apt mirror in $target"
  done
  if [[ -n ${DSIMG_KEEP_PIP:-} ]]; then
    printf '[global]\nindex-url = %s\n' "$DSIMG_KEEP_PIP" >/etc/pip.conf
    say 'kept the Python index in /etc/pip.conf'
  fi
  if [[ -n ${DSIMG_KEEP_CRAN:-} && -d /etc/R ]]; then
    sed -i '/# kept by dsimg$/d' /etc/R/Rprofile.site 2>/dev/null || true
    printf 'options(repos = c(CRAN = "%s")) # kept by dsimg\n' "$DSIMG_KEEP_CRAN" >>/etc/R/Rprofile.site
    say 'kept the R repository in /etc/R/Rprofile.site'
  fi
}
