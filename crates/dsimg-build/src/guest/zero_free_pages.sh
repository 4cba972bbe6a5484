# What was freed just now still holds its old content, and would be saved with it: the balloon's driver gives pages back
# to the host in runs of 2 MiB and after seconds. A process that takes small pages gets these first, zeroed, and zeros
# are not saved.
huge=/sys/kernel/mm/transparent_hugepage/enabled
before=$(sed 's/.*\[\(.*\)\].*/\1/' "$huge" 2>/dev/null)
free=$(sed -n 's/^MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo)
size=$((free / 2 < 229376 ? free / 2 : 229376))
[ -z "$before" ] || echo never >"$huge"
dd if=/dev/zero of=/dev/null bs="${size}K" count=1 status=none
[ -z "$before" ] || echo "$before" >"$huge"
