set -eu
umask 022
folder=@FOLDER@

# A tmpfs of its own: /run is often mounted noexec and small, and this one goes with the machine.
mkdir -p "$folder"
if ! mountpoint -q "$folder"; then
  mount -t tmpfs -o mode=0711,nosuid,nodev,size=75% dsimg "$folder"
fi
mkdir -p "$folder/freeze" /var/cache/dsimg/tools
# Tools are large, and what lies in memory is saved with each checkpoint.
ln -sfn /var/cache/dsimg/tools "$folder/tools"

put() { # NAME MODE CONTENT
  (umask 077 && printf %s "$3" >"$folder/$1")
  chmod "$2" "$folder/$1"
}

# For tools that know it, every time is the base's: it was made on the disk's first boot, and stays through all later ones.
set_epoch() {
  if [ ! -s /var/cache/dsimg/epoch ]; then
    stat -c %Y /var/lib/dpkg/status 2>/dev/null >/var/cache/dsimg/epoch || stat -c %Y /etc/os-release >/var/cache/dsimg/epoch
  fi
  echo "SOURCE_DATE_EPOCH=$(cat /var/cache/dsimg/epoch)" >>"$folder/env"
}

# Copies of the sources files in which the distribution's archive hosts give way to a mirror; `[network] keep` leaves them in
# the image.
copy_sources_with_mirror() { # URL
  mkdir -p "$folder/apt-mirror"
  security=${1%/debian}/debian-security
  case $1 in */debian) ;; *) security=$1 ;; esac
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    copy=$folder/apt-mirror/${file##*/}
    # One that goes on from a checkpoint has them already, and bound: the file would be its own copy.
    if [ ! -s "$file" ] || [ -e "$copy" ] || mountpoint -q "$file"; then continue; fi
    sed -E \
      -e "s#https?://(security|deb)\.debian\.org/debian-security/?#$security#" \
      -e "s#https?://(deb|ftp[^/]*|httpredir)\.debian\.org/debian/?#$1#" \
      -e "s#https?://([a-z.]+\.)?archive\.ubuntu\.com/ubuntu/?#$1#" \
      -e "s#https?://security\.ubuntu\.com/ubuntu/?#$1#" "$file" >"$copy"
    if cmp -s "$copy" "$file"; then rm "$copy"; fi
  done
}

# The mirror is used for as long as the machine runs: the copies are bound over the files, which stay as they are on the disk.
use_apt_mirror() { # URL
  copy_sources_with_mirror "$1"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    copy=$folder/apt-mirror/${file##*/}
    if [ -e "$copy" ] && ! mountpoint -q "$file"; then mount --bind "$copy" "$file"; fi
  done
}

# The kernel would go on preparing a new ext4 in the background: writes that nobody needs in the image, and zeros that can't
# be told from what is given back to the host.
mount -o remount,noinit_itable / 2>/dev/null || true
