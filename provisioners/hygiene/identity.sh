# shellcheck shell=bash
# What must be new in every machine that starts from the image. Sourced by clean.sh.

# H1: an empty file, as machine-id(5) says for images: the first boot fills it, and is not treated as systemd's
# "first boot" with its questions on the console.
reset_machine_id() {
  rm -f /etc/machine-id
  : >/etc/machine-id
  chmod 0444 /etc/machine-id
  if [[ -d /var/lib/dbus ]]; then ln -sfn /etc/machine-id /var/lib/dbus/machine-id; fi
}

# H2: cloud-init makes new ones at the first boot, and a service of dsimg's own bases where no cloud is. Where the
# template took cloud-init out of another base, ssh makes them.
remove_host_keys() {
  wipe /etc/ssh/ssh_host_*
  [[ ! -e /usr/bin/cloud-init || -e /etc/cloud/cloud-init.disabled ]] || return 0
  [[ -e /usr/sbin/sshd && ! -e /etc/systemd/system/dsimg-host-key.service ]] || return 0
  mkdir -p /etc/systemd/system/ssh.service.d
  printf '%s\n' '[Service]' 'ExecStartPre=' 'ExecStartPre=/usr/bin/ssh-keygen -A' 'ExecStartPre=/usr/sbin/sshd -t' \
    >/etc/systemd/system/ssh.service.d/10-host-keys.conf
  say 'without cloud-init, ssh makes its host keys before its first start'
}

# H11 to H13: all that it remembers of this machine, the seed folder and what it wrote into /etc from them.
# Scripts below /var/lib/cloud/scripts may be the template's and stay.
remove_cloud_init_state() {
  wipe /var/lib/cloud/instances/*/*
  remove /var/lib/cloud/{instance,instances,data,sem,handlers,seed} \
    /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* \
    /etc/systemd/network/10-cloud-init-* /etc/NetworkManager/system-connections/cloud-init-* \
    /etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf /etc/ssh/sshd_config.d/50-cloud-init.conf \
    /etc/udev/rules.d/*persistent-net*.rules
  # Mounts that cloud-init added are marked so, and name this machine's disks.
  if has_line_with comment=cloudconfig /etc/fstab; then sed -i '/comment=cloudconfig/d' /etc/fstab; fi
}

# H14, H15, H17: name, leases and client ids.
reset_network_identity() {
  local name=''
  [[ ! -e /etc/hostname ]] || name=$(</etc/hostname)
  if [[ -n $name && $name != localhost ]]; then
    printf 'localhost\n' >/etc/hostname
    # Only this machine's own line, which the installer and cloud-init write.
    sed -i "/^127\.0\.1\.1[[:space:]].*${name//./\\.}/d" /etc/hosts
    if has_line_with "$name" /etc/mailname; then printf 'localhost\n' >/etc/mailname; fi
  fi
  empty_folder /var/lib/{dhcp,dhclient,dhcpcd,systemd/network}
  remove /etc/machine-info /etc/dhcpcd.duid /var/lib/NetworkManager/{*.lease,secret_key,seen-bssids,timestamps} \
    /var/lib/NetworkManager/internal-*
  # A link leads to a service that writes it anew; a plain file holds the build's name server.
  if [[ -f /etc/resolv.conf && ! -L /etc/resolv.conf ]]; then : >/etc/resolv.conf; fi
}

# H16, and when timers last ran.
reset_random_seed() {
  wipe /var/lib/systemd/{random-seed,credential.secret}
  remove /var/lib/systemd/timers/stamp-*
}
