# shellcheck shell=bash
# Waiting for others who hold the package system. Sourced; needs bash, perl-base and messages.sh.

PACKAGE_LOCKS=(
  /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock
)

# Prints `PID FILE` of the first lock that another process holds, nothing when all are free.
# fcntl(F_GETLK) is asked because it is right on every file system; perl-base is on every Debian.
lock_holder() {
  perl -e '
    for my $file (@ARGV) {
      open(my $handle, "+<", $file) or next;
      my $lock = pack("s s x4 q q i x4", 1, 0, 0, 0, 0);   # F_WRLCK from the start of the file
      fcntl($handle, 5, $lock) or next;                    # F_GETLK
      my ($type, undef, undef, undef, $pid) = unpack("s s x4 q q i x4", $lock);
      next if $type == 2;                                  # F_UNLCK: free
      print "$pid $file\n";
      last;
    }' "${PACKAGE_LOCKS[@]}"
}

command_of() { # PID
  tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | sed 's/ *$//' | cut -c1-120
}

# `wait_for_package_locks SECONDS`: until nobody else holds a lock of dpkg or apt; fails by name when it lasts.
wait_for_package_locks() {
  local limit=$1 holder pid file start=$SECONDS told=-30
  while holder=$(lock_holder) && [[ -n $holder ]]; do
    pid=${holder%% *} file=${holder#* }
    if ((SECONDS - start >= limit)); then
      fail "\`$file\` is still held by process $pid (\`$(command_of "$pid")\`) after $limit s" \
        "stop that job in an earlier \`shell\` stage, or give it longer with \`lock_timeout\`"
    fi
    if ((SECONDS - told >= 30)); then
      say "waiting for process $pid (\`$(command_of "$pid")\`) to release \`$file\`"
      told=$SECONDS
    fi
    sleep 0.5
  done
}

# Jobs that Debian and Ubuntu start by themselves after a boot and that take those locks. The masks lie in /run,
# so the image's own settings stay as they are: it must go on patching itself.
PACKAGE_JOBS=(
  apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer apt-news.service esm-cache.service
  apt-daily.service apt-daily-upgrade.service unattended-upgrades.service packagekit.service
)

# Keeps those jobs from starting until the machine goes down. A job that runs is left to end by itself.
# `systemctl mask` would make these links, too, and read all units anew, which takes seconds in an emulated machine;
# systemd looks at them when it next loads such a unit.
hold_package_jobs() {
  [[ -d /run/systemd/system ]] || return 0
  [[ ! -e /run/dsimg/package-jobs-held ]] || return 0
  local job
  for job in "${PACKAGE_JOBS[@]}"; do
    [[ -e /run/systemd/system/$job || -L /run/systemd/system/$job ]] || ln -s /dev/null "/run/systemd/system/$job"
  done
  systemctl --quiet stop apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer 2>/dev/null || true
  touch /run/dsimg/package-jobs-held
}
