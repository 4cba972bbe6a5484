# Run early in the first boot of a machine on one of dsimg's own bases, instead of cloud-init, whose start takes
# ten seconds of an emulated boot: lets the build in, and grows the disk beside the rest of the boot.
# The values come before this text: user, authorized_key, host_key, host_key_public.
set -eu
umask 077

# The addresses of QEMU's own network are known, and asking for them takes two seconds. networkd would set them three
# seconds after sshd listens: it waits for udev, which is busy with the drivers of all other devices.
set_address() {
  modprobe virtio_net
  for file in /sys/class/net/*/address; do
    [ "$(cat "$file")" = 52:54:00:12:34:56 ] || continue
    card=$(basename "$(dirname "$file")")
    ip link set "$card" up
    ip address replace 10.0.2.15/24 dev "$card"
    ip route replace default via 10.0.2.2 dev "$card" proto static
  done
}
set_address >/run/dsimg-address.log 2>&1 &

add_line() { # FILE LINE
  grep -qsxF -- "$2" "$1" || printf '%s\n' "$2" >>"$1"
}

if [ "$user" = root ]; then
  home=/root
else
  home=/home/$user
  getent passwd "$user" >/dev/null || useradd --create-home --shell /bin/bash --comment 'dsimg build' "$user"
  # The name of cloud-init's own file: the hygiene stage knows it.
  add_line /etc/sudoers.d/90-cloud-init-users "$user ALL=(ALL) NOPASSWD:ALL"
  chmod 440 /etc/sudoers.d/90-cloud-init-users
fi
mkdir -p "$home/.ssh"
add_line "$home/.ssh/authorized_keys" "$authorized_key"
chown -R "$user": "$home/.ssh"
printf '%s' "$host_key" >/etc/ssh/ssh_host_ed25519_key
printf '%s\n' "$host_key_public" >/etc/ssh/ssh_host_ed25519_key.pub
: >/run/dsimg-first-boot

# What networkd finds is what it would set.
mkdir -p -m 755 /run/systemd/network
cat >/run/systemd/network/05-dsimg.network <<'END'
[Match]
MACAddress=52:54:00:12:34:56
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
DNS=10.0.2.3
END
chmod 755 /run/systemd/network
chmod 644 /run/systemd/network/05-dsimg.network

grow() {
  root=$(findmnt --noheadings --output SOURCE /)
  part=/sys/class/block/${root##*/}
  disk=/dev/$(basename "$(dirname "$(readlink -f "$part")")")
  growpart "$disk" "$(cat "$part/partition")" && resize2fs "$root"
}
(
  # A disk that is as large as it can be is refused by growpart, with 1.
  grow >/run/dsimg-grow.log 2>&1 || true
  : >/run/dsimg-grown
) &
