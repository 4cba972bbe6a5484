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
