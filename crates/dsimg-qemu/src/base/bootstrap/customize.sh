#!/bin/sh
# Run by mmdebstrap when all packages are in the tree: makes of it a machine that boots anywhere.
# The DSIMG_… variables are set by dsimg.
set -eu
root=$1

put() { # FILE: its content is read from stdin
  mkdir -p "$root/${1%/*}"
  cat >"$root/$1"
}

# The host's own settings, which mmdebstrap uses to reach the mirror.
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
echo localhost | put etc/hostname
put etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
END

put etc/fstab <<END
UUID=$DSIMG_ROOT_UUID / ext4 discard,errors=remount-ro 0 1
# Mounted when it is looked into, as grub's updates do: a boot needs nothing of it.
UUID=$DSIMG_ESP_ID /boot/efi vfat umask=0077,noauto,x-systemd.automount,x-systemd.idle-timeout=1min 0 0
END
mkdir -p "$root/boot/efi"

echo 'LANG=C.UTF-8' | put etc/default/locale

rm -f "$root/etc/apt/sources.list"
printf '%s' "$DSIMG_SOURCES" | put "etc/apt/sources.list.d/$DSIMG_DISTRO.sources"

# cloud-init: the homes an image may have, and no probing for others.
put etc/cloud/cloud.cfg.d/90_dsimg.cfg <<'END'
datasource_list: [NoCloud, ConfigDrive, OpenStack, Ec2]
system_info:
  network:
    renderers: [netplan, networkd]
# No RSA: making such a key is slow, and every ssh client of the last ten years knows the others.
ssh_genkeytypes: [ed25519, ecdsa]
# The first list runs before ssh answers, so it has only what a login needs; growing the root follows at once.
# What is left out of the distribution's lists serves other systems or prints to the console.
cloud_init_modules:
  [seed_random, bootcmd, write-files, disk_setup, mounts, set_hostname, update_hostname, update_etc_hosts, ca-certs,
   rsyslog, users-groups, ssh]
cloud_config_modules:
  [growpart, resizefs, ssh-import-id, keyboard, locale, set-passwords, apt-configure, ntp, timezone,
   disable-ec2-metadata, runcmd]
cloud_final_modules:
  [package-update-upgrade-install, write-files-deferred, puppet, chef, salt-minion, scripts-vendor, scripts-per-once,
   scripts-per-boot, scripts-per-instance, scripts-user, ssh-authkey-fingerprints, install-hotplug, phone-home,
   final-message, power-state-change]
END
# Its start is what ssh waits for longest: what runs beside it waits rather than it. From cloud-init 24.3 on.
put etc/systemd/system/cloud-init-main.service.d/dsimg.conf <<'END'
[Service]
StartupCPUWeight=10000
END

put etc/ssh/sshd_config.d/40-dsimg.conf <<'END'
PasswordAuthentication no
END
# Where no cloud is, cloud-init makes no host key, and without one sshd does not start.
put etc/systemd/system/dsimg-host-key.service <<'END'
[Unit]
Description=Make an ssh host key where there is none
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
After=cloud-init.service cloud-init-network.service
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=ssh.service
END

# Cards that no cloud says anything about. cloud-init's own files sort before this one.
put etc/systemd/network/90-dsimg-dhcp.network <<'END'
[Match]
Type=ether
Name=en* eth*

[Network]
DHCP=yes
END
# One card that is up is enough to go on; the default waits two minutes for every one.
put etc/systemd/system/systemd-networkd-wait-online.service.d/dsimg.conf <<'END'
[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --any --timeout=60
END
# A link counts as up only after IPv6 has looked for a double of its own address: two seconds of each boot, for
# addresses that are made from the card's.
echo 'net.ipv6.conf.default.dad_transmits=0' | put etc/sysctl.d/60-dsimg.conf
chroot "$root" systemctl enable --quiet systemd-networkd.service dsimg-host-key.service

# A timer that is late must not run at boot, when a build or the user installs packages.
for timer in apt-daily apt-daily-upgrade; do
  put "etc/systemd/system/$timer.timer.d/dsimg.conf" <<'END'
[Timer]
Persistent=false
END
done
# For LVM, which the image has not.
chroot "$root" systemctl disable --quiet e2scrub_reap.service e2scrub_all.timer 2>/dev/null || true

# The loader. grub-install wants a disk; its work for BIOS and UEFI is done here and by dsimg without one, and an
# update of grub or the kernel in the running machine does it the usual way.
put etc/default/grub.d/50-dsimg.cfg <<END
GRUB_TIMEOUT=0
GRUB_RECORDFAIL_TIMEOUT=0
GRUB_CMDLINE_LINUX="$DSIMG_CMDLINE"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
GRUB_DISABLE_OS_PROBER=true
END
# Debian's grub-cloud leaves the disk alone without this mark.
: >"$root/etc/grub.d/enable_cloud"
set -- "$root"/lib/modules/*
if [ $# -ne 1 ] || [ ! -e "$root/boot/vmlinuz-${1##*/}" ]; then
  echo "expected exactly one kernel in the tree, found: $(ls "$root/boot" | tr '\n' ' ')" >&2
  exit 1
fi
kernel=${1##*/}
# The time of a base is that of its packages and not of the day it is made: the same packages are the same base. No file
# of a package is younger than what its md5sums came with.
epoch=$(find "$root/var/lib/dpkg/info" -name '*.md5sums' -printf '%T@\n' | sort -n | tail -n 1)
epoch=${epoch%.*}
# The packages' own scripts, told so by `INITRD=No`, made none.
SOURCE_DATE_EPOCH=$epoch chroot "$root" update-initramfs -c -k "$kernel"
mkdir -p "$root/boot/grub/i386-pc"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
chroot "$root" grub-editenv /boot/grub/grubenv create
put boot/grub/grub.cfg <<END
# Written when the image was made; the next update-grub replaces it.
serial --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry 'Linux $kernel' {
  insmod part_gpt
  insmod ext2
  search --no-floppy --fs-uuid --set=root $DSIMG_ROOT_UUID
  linux /boot/vmlinuz-$kernel root=UUID=$DSIMG_ROOT_UUID ro $DSIMG_CMDLINE
  initrd /boot/initrd.img-$kernel
}
END

# What dsimg fetches for the parts of the disk that are no file system of the tree.
out=/tmp/dsimg
mkdir -p "$root$out"
chroot "$root" grub-mkimage -O i386-pc -o $out/core.img -p '(,gpt3)/boot/grub' biosdisk part_gpt ext2
chroot "$root" cp -L /usr/lib/grub/i386-pc/boot.img $out/boot.img
chroot "$root" cp -L /usr/lib/shim/shimx64.efi.signed $out/shimx64.efi
mok=/usr/lib/shim/mmx64.efi
[ ! -e "$root$mok.signed" ] || mok=$mok.signed
chroot "$root" cp -L $mok $out/mmx64.efi
chroot "$root" cp -L /usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed $out/grubx64.efi
chroot "$root" dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\n' >"$root$out/packages"
printf '%s\n' "$kernel" >"$root$out/kernel"
printf '%s\n' "$epoch" >"$root$out/epoch"

# Traces of the making, and what must differ from machine to machine.
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/*
rm -f "$root"/etc/apt/apt.conf.d/*mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/*mmdebstrap
rm -f "$root"/etc/ssh/ssh_host_*_key "$root"/etc/ssh/ssh_host_*_key.pub
rm -f "$root"/var/log/dpkg.log "$root"/var/log/alternatives.log "$root"/var/log/bootstrap.log "$root"/var/log/apt/*
rm -f "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
rm -f "$root"/etc/passwd- "$root"/etc/shadow- "$root"/etc/group- "$root"/etc/gshadow-
rm -f "$root"/initrd.img.old "$root"/vmlinuz.old "$root"/var/lib/systemd/random-seed
# Empty, not missing: systemd then makes an id without taking the boot for the very first, which would undo what
# was enabled and disabled above.
rm -f "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
# Without these, the first boot rebuilds ldconfig's cache, the hardware database and the journal's catalog.
touch "$root/etc/.updated" "$root/var/.updated"
