# shellcheck shell=bash disable=SC2034  # its variables are read by the files that source it
# A stand-in for the machine: a Debian tree under an overlay, entered with chroot. Sourced by run.sh, which runs in a
# mount namespace of its own, so that every mount made here goes with it.

# The folders that the scripts under test come from, given by run.sh.
: "${PROVISIONERS:?}"
# The tree that all guests start from; made once and kept, because it takes a while.
DEV_FOLDER=${DSIMG_DEV_FOLDER:-/var/tmp/dsimg-dev}
SUITE=${DSIMG_TEST_SUITE:-trixie}
MIRROR=${DSIMG_TEST_MIRROR:-http://deb.debian.org/debian}

# `make_tree NAME PACKAGES`: $DEV_FOLDER/NAME, bootstrapped unless it is there.
make_tree() {
  local tree=$DEV_FOLDER/$1
  [[ -e $tree/etc/os-release ]] && return 0
  mkdir -p "$DEV_FOLDER"
  printf 'bootstrapping %s (%s)\n' "$tree" "$2"
  rm -rf "$tree.new"
  mmdebstrap --quiet --variant=apt --include="$2" "$SUITE" "$tree.new" "$MIRROR" && mv "$tree.new" "$tree"
}

# `new_guest TREE`: a fresh guest in $GUEST; the one before is thrown away.
new_guest() {
  drop_guest
  local tree=$DEV_FOLDER/$1
  GUEST=$WORK/guest
  mkdir -p "$WORK/upper" "$WORK/overlay" "$GUEST"
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$WORK/upper,workdir=$WORK/overlay" "$GUEST"
  mount -t proc proc "$GUEST/proc"
  mount --rbind /dev "$GUEST/dev"
  mount --make-rslave "$GUEST/dev"
  mount -t tmpfs -o mode=0755 tmpfs "$GUEST/run"
  mkdir -m 0711 "$GUEST/run/dsimg"
  mkdir -p "$GUEST/run/dsimg/tools" "$GUEST/run/dsimg/freeze"
  cp --remove-destination -L /etc/resolv.conf "$GUEST/etc/resolv.conf"
  cp /etc/ssl/certs/ca-certificates.crt "$GUEST/run/dsimg/ca.pem"
  [[ -z ${UV:-} ]] || cp "$UV" "$GUEST/run/dsimg/tools/uv"
  GUEST_ENV=(LC_ALL=C.UTF-8 LANG=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    DEBIAN_FRONTEND=noninteractive DSIMG_TOOLS=/run/dsimg/tools)
  trust_host
  STAGE=0
}

drop_guest() {
  [[ -n ${GUEST:-} ]] || return 0
  umount --recursive --lazy "$GUEST"
  rm -rf "$WORK/upper" "$WORK/overlay"
  GUEST=''
}

# What `[network] ca` puts into the environment of every script.
trust_host() {
  local name
  for name in SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE PIP_CERT GIT_SSL_CAINFO; do
    GUEST_ENV+=("$name=/run/dsimg/ca.pem")
  done
  printf 'Acquire::https::CAInfo "/run/dsimg/ca.pem";\n' >"$GUEST/run/dsimg/apt.conf"
  GUEST_ENV+=(APT_CONFIG=/run/dsimg/apt.conf)
}

trust_nobody() {
  local kept=() entry
  for entry in "${GUEST_ENV[@]}"; do
    case $entry in *ca.pem | APT_CONFIG=*) ;; *) kept+=("$entry") ;; esac
  done
  GUEST_ENV=("${kept[@]}")
}

in_guest() { env -i "${GUEST_ENV[@]}" chroot "$GUEST" "$@"; }

# `stage PROVISIONER [PARAMETERS]`: runs its scripts as the engine does, with the defaults of its definition and the
# bash assignments PARAMETERS after them. Output in $OUTPUT, exit status in $STATUS.
stage() {
  prepare_stage "$1" "${2:-}"
  run_stage "$1"
}

prepare_stage() {
  STAGE=$((STAGE + 1))
  FOLDER=/run/dsimg/stage-$STAGE
  mkdir -m 0711 "$GUEST$FOLDER"
  cp -r "$PROVISIONERS/$1/." "$GUEST$FOLDER"
  cp -r "$PROVISIONERS/common" "$GUEST$FOLDER/common"
  chmod -R a+rX "$GUEST$FOLDER"
  chmod 0711 "$GUEST$FOLDER"
  (umask 077 && { default_parameters "$PROVISIONERS/$1/provisioner.toml" && printf '%s\n' "$2"; } \
    >"$GUEST$FOLDER/params.sh")
}

run_stage() {
  local script
  STATUS=0
  : >"$WORK/output"
  while read -r script; do
    ((STATUS == 0)) || break
    timeout "${STAGE_TIMEOUT:-600}" env -i "${GUEST_ENV[@]}" chroot "$GUEST" \
      bash -c 'cd "$1" && exec bash "./$2"' bash "$FOLDER" "$script" >>"$WORK/output" 2>&1 </dev/null || STATUS=$?
  done < <(sed -nE 's/^run = "([^"]*)".*/\1/p' "$PROVISIONERS/$1/provisioner.toml")
  OUTPUT=$(<"$WORK/output")
}

# `upload PARAMETER FILE`: puts a file where an upload step without `to` puts it; prints its path in the guest.
# The stage must be prepared first.
upload() {
  local target=$FOLDER/uploads/$1/${2##*/}
  mkdir -p "$GUEST${target%/*}"
  cp -r "$2" "$GUEST$target"
  printf '%s' "$target"
}

# The parameters of a definition as bash assignments, with their defaults.
default_parameters() { # TOML
  awk '
    function quoted(text) { gsub(/\047/, "\047\\\047\047", text); return "\047" text "\047" }
    function seconds(text) { return text ~ /m$/ ? text * 60 : text ~ /h$/ ? text * 3600 : text + 0 }
    function end() {
      if (name == "") return
      if (name ~ /\.fields\./) { split(name, part, /\.fields\./); print part[1] "_" part[2] "=()"; }
      else if (type == "tables") print name "_count=0"
      else if (type == "map") print "declare -A " name "=()"
      else if (type == "boolean") print name "=" (value == "" ? "false" : value)
      else if (type == "duration") print name "=" seconds(value)
      else if (type == "integers") { gsub(/[][,]/, " ", value); print name "=(" value ")" }
      else if (type ~ /s$/) print name "=()"
      else print name "=" quoted(value)
      name = type = value = ""
    }
    /^\[/ { end() }
    /^\[parameters\./ { name = $0; sub(/^\[parameters\./, "", name); sub(/\]$/, "", name) }
    /^type = / && name != "" { type = $3; gsub(/"/, "", type) }
    /^default = / && name != "" { value = $0; sub(/^default = /, "", value); gsub(/"/, "", value) }
    END { end() }' "$1"
}

freeze() { # PROVISIONER
  cp "$PROVISIONERS/$1/freeze.sh" "$GUEST/run/dsimg/freeze-$1.sh"
  in_guest bash "/run/dsimg/freeze-$1.sh"
}
