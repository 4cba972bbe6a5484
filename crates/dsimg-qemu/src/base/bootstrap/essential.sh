#!/bin/sh
# Run by mmdebstrap when the essential packages are in the tree and before all others.
set -eu
root=$1

# A small initrd with the disks of every home an image may have (QEMU, OpenStack, AWS, Xen, VMware, Hyper-V),
# whatever machine makes it. `most` is twice as large: firmware reads it slowly, and every boot unpacks it.
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
cat >"$root/etc/initramfs-tools/conf.d/dsimg" <<'CONF'
MODULES=list
FSTYPE=ext4
CONF
cat >"$root/usr/share/initramfs-tools/modules.d/dsimg" <<'MODULES'
virtio_pci
virtio_blk
virtio_scsi
nvme
xen-blkfront
ahci
ata_piix
sd_mod
vmw_pvscsi
mptspi
hv_storvsc
ext4
MODULES

# Where grub-pc is used, no disk of this host is its business.
if [ -x "$root/usr/bin/debconf-set-selections" ]; then
  chroot "$root" debconf-set-selections <<'ANSWERS'
grub-pc grub-pc/install_devices multiselect
grub-pc grub-pc/install_devices_empty boolean true
ANSWERS
fi
