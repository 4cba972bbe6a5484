# Makes the machine's memory small before it is saved. What was used least goes from the page cache, and what the next
# stage needs first stays: read again by an emulated machine it would take seconds. Free pages are given back to the
# host by the balloon's driver.
sync
keep=$((64 << 20))
for slice in user.slice system.slice; do
  reclaim=/sys/fs/cgroup/$slice/memory.reclaim
  if [ ! -w "$reclaim" ]; then
    # An older kernel (before 5.19), or without cgroups of version 2.
    echo 3 >/proc/sys/vm/drop_caches
    break
  fi
  cached=$(sed -n 's/^file //p' "/sys/fs/cgroup/$slice/memory.stat")
  # It says "try again" when it found less than was asked for.
  if [ "$cached" -gt "$keep" ]; then echo $((cached - keep)) 2>/dev/null >"$reclaim" || true; fi
done

# What was freed just now still holds its old content, and would be saved with it: the balloon's driver gives pages back
# to the host in runs of 2 MiB and after seconds. A process that takes small pages gets these first, zeroed, and zeros
# are not saved.
huge=/sys/kernel/mm/transparent_hugepage/enabled
before=$(sed 's/.*\[\(.*\)\].*/\1/' "$huge" 2>/dev/null)
free=$(sed -n 's/^MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo)
size=$((free / 2 < 393216 ? free / 2 : 393216))
[ -z "$before" ] || echo never >"$huge"
dd if=/dev/zero of=/dev/null bs="${size}K" count=1 status=none
[ -z "$before" ] || echo "$before" >"$huge"
