#!/bin/sh
# Run by mmdebstrap when the essential packages are in the tree and before all others.
set -eu
root=$1

# A small initrd with the disks of every home an image may have (QEMU, OpenStack, AWS, Xen, VMware, Hyper-V),
# whatever machine makes it. `most` is twice as large: firmware reads it slowly, and every boot unpacks it.
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/hooks"
cat >"$root/etc/initramfs-tools/conf.d/dsimg" <<'CONF'
MODULES=list
FSTYPE=ext4
CONF
# They are there for udev to find; a list in `modules.d` would load all of them at each boot.
cat >"$root/usr/share/initramfs-tools/hooks/dsimg" <<'HOOK'
#!/bin/sh
[ "$1" = prereqs ] && echo udev && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_scsi nvme xen-blkfront ahci ata_piix sd_mod vmw_pvscsi mptspi hv_storvsc
manual_add_modules ext4
# 13 MB about keyboards and the like, which nobody looks up before the root file system is there.
rm -f "$DESTDIR/usr/lib/udev/hwdb.bin" "$DESTDIR/etc/udev/hwdb.bin"
HOOK
chmod 755 "$root/usr/share/initramfs-tools/hooks/dsimg"

# Where grub-pc is used, no disk of this host is its business.
if [ -x "$root/usr/bin/debconf-set-selections" ]; then
  chroot "$root" debconf-set-selections <<'ANSWERS'
grub-pc grub-pc/install_devices multiselect
grub-pc grub-pc/install_devices_empty boolean true
ANSWERS
fi
