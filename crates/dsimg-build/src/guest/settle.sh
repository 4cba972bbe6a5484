set -eu

wait_for() { # FILE WHAT LOG: at most ten minutes
  waited=0
  until [ -e "$1" ]; do
    sleep 0.2
    waited=$((waited + 1))
    if [ "$waited" -ge 3000 ]; then
      echo "$2 did not end within 10 minutes; the last lines of its log:" >&2
      tail -n 5 "$3" >&2 || true
      exit 1
    fi
  done
}

# First-boot jobs must be over: they write users, keys and network settings, grow the disk, and hold package locks.
if [ -e /run/dsimg-first-boot ]; then
  wait_for /run/dsimg-grown 'the growing of the disk' /run/dsimg-grow.log
  # Names are looked up where networkd says.
  while ! grep -qsx DNS=10.0.2.3 /run/systemd/netif/state; do
    sleep 0.2
    waited=$((waited + 1))
    [ "$waited" -lt 150 ] || break
  done
elif [ -d /run/cloud-init ] && [ ! -e /run/cloud-init/disabled ]; then
  # What `cloud-init status --wait` waits for, without a Python start for each look.
  wait_for /run/cloud-init/result.json cloud-init /var/log/cloud-init.log
fi
