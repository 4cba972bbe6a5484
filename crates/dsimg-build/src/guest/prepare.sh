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

# The distribution's archive hosts give way to a mirror for as long as the machine runs: a rewritten copy is
# bound over each sources file, so the file on the disk stays as it is.
use_apt_mirror() { # URL
  mkdir -p "$folder/apt"
  security=${1%/debian}/debian-security
  case $1 in */debian) ;; *) security=$1 ;; esac
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -s "$file" ] || continue
    copy=$folder/apt/${file##*/}
    sed -E \
      -e "s#https?://(security|deb)\.debian\.org/debian-security/?#$security#" \
      -e "s#https?://(deb|ftp[^/]*|httpredir)\.debian\.org/debian/?#$1#" \
      -e "s#https?://([a-z.]+\.)?archive\.ubuntu\.com/ubuntu/?#$1#" \
      -e "s#https?://security\.ubuntu\.com/ubuntu/?#$1#" "$file" >"$copy"
    if ! cmp -s "$copy" "$file" && ! mountpoint -q "$file"; then mount --bind "$copy" "$file"; fi
  done
}

# The kernel would go on preparing a new ext4 in the background: writes that nobody needs in the image, and zeros that can't
# be told from what is given back to the host.
mount -o remount,noinit_itable / 2>/dev/null || true
