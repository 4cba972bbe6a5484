#!/bin/sh
# Run by mmdebstrap last: writes the tree as an ext4 file system into the disk that is open as file descriptor 9,
# behind the room for the other partitions. Owners, capabilities and all are as the tree's own mke2fs sees them
# from inside mmdebstrap's user namespace, so no root and no loop device is needed, and the file system has the
# features that the tree's kernel, grub and e2fsck know.
set -eu
root=$1

# mmdebstrap keeps services from starting with these for as long as its hooks run, and takes them out only after the
# last one; this is the last one, and the image's packages must be able to start their services.
rm -f "$root/usr/sbin/policy-rc.d"
if [ -e "$root/sbin/start-stop-daemon.REAL" ]; then
  mv "$root/sbin/start-stop-daemon.REAL" "$root/sbin/start-stop-daemon"
fi

# Not what is mounted in the tree while packages are installed, only the tree: a plain bind leaves mounts out.
mount --bind "$root" "$root/mnt"
for folder in dev run tmp; do
  mount -t tmpfs -o mode=0755 dsimg "$root/mnt/$folder"
done
chmod 1777 "$root/mnt/tmp"

# Room for the first boot, which grows it; a file of zeros costs nothing. What `du` says would depend on the host's file system.
used=$(find "$root/mnt" -xdev -printf '%y %s\n' | awk '{kib += 4 + ($1 == "f" ? int(($2 + 4095) / 4096) * 4 : 0)} END {print kib}')
kib=$((used / 4 * 5 + 1024 * 1024))
[ "$kib" -ge $((2 * 1024 * 1024)) ] || kib=$((2 * 1024 * 1024))
kib=$((kib / 1024 * 1024))
# The last MiB is for the copy of the partition table.
truncate -s "$((DSIMG_ROOT_OFFSET + kib * 1024 + 1024 * 1024))" /proc/self/fd/9
chroot "$root" mke2fs -q -F -t ext4 -L root -U "$DSIMG_ROOT_UUID" -m 1 \
  -E "offset=$DSIMG_ROOT_OFFSET,lazy_itable_init=0,nodiscard,root_owner=0:0" -d /mnt /proc/self/fd/9 "${kib}k"

for folder in tmp run dev; do
  umount "$root/mnt/$folder"
done
umount "$root/mnt"
