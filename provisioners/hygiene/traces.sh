# shellcheck shell=bash
# What the work of the build left on the disk. Sourced by clean.sh.

# From here on nothing writes logs to the disk, and no service that the shutdown stops writes its record.
# The masks lie in /run and end with the machine.
stop_writers() {
  [[ -d /run/systemd/system ]] || return 0
  systemctl --quiet --runtime mask systemd-random-seed.service systemd-update-utmp.service 2>/dev/null || true
  systemctl --quiet stop rsyslog.service syslog.socket cron.service systemd-timesyncd.service 2>/dev/null || true
  journalctl --relinquish-var >/dev/null 2>&1 || true
}

# H18, H19: a log's file stays, because services expect its owner and mode; old ones and those of one-time work go.
empty_logs() {
  rm -rf /var/log/journal/* /var/log/cloud-init*.log /var/log/installer /var/log/apt/* /var/log/bootstrap.log \
    /var/log/unattended-upgrades/*
  find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' \) -delete
  find /var/log -xdev -type f -size +0 -exec truncate --size 0 {} +
  rm -f /var/lib/wtmpdb/wtmp.db* /var/lib/lastlog/lastlog2.db*
}

# H20: lists and archives; H23: what kept services from starting; H27: configuration files that upgrades set aside.
remove_package_leftovers() {
  empty_folder /var/lib/apt/lists /var/cache/apt/archives /var/lib/apt/periodic /var/backups
  if id _apt >/dev/null 2>&1; then
    install -d -o _apt -g root -m 700 /var/lib/apt/lists/partial /var/cache/apt/archives/partial
  fi
  rm -f /var/cache/apt/*.bin /var/lib/dpkg/*-old /var/cache/debconf/*-old /var/lib/apt/daily_lock
  if grep -qs 'made by dsimg' /usr/sbin/policy-rc.d; then rm -f /usr/sbin/policy-rc.d; fi
  if [[ -e /usr/sbin/policy-rc.d.dsimg-kept ]]; then
    mv /usr/sbin/policy-rc.d.dsimg-kept /usr/sbin/policy-rc.d
  fi
  find /etc -xdev -type f \( -name '*.dpkg-old' -o -name '*.dpkg-dist' -o -name '*.dpkg-new' -o -name '*.dpkg-tmp' \
    -o -name '*.ucf-old' -o -name '*.ucf-dist' \) -delete
}

# H21: caches of package tools only; others, such as models that a template puts there, are part of the image.
remove_caches() {
  remove_in_homes .cache/pip .cache/uv .cache/pip-tools .npm/_cacache .npm/_logs .cache/yarn .cache/go-build \
    .cache/R/pkgcache .cargo/registry/cache .local/share/uv
  local home
  while read -r home; do
    if [[ -d $home/.cache ]]; then rmdir --ignore-fail-on-non-empty "$home/.cache"; fi
  done < <(homes)
  rm -rf /var/cache/dsimg /var/cache/man/* /var/cache/ldconfig/aux-cache
}

# H25
remove_crash_dumps() {
  empty_folder /var/crash /var/lib/systemd/coredump /var/lib/systemd/pstore /var/lib/apport/coredump
}

# H26, H27: the build's own; jobs that the template set up for its users stay.
remove_mail_and_jobs() { empty_folder /var/mail /var/spool/cron/atjobs /var/spool/cron/atspool; }

# H24
remove_temporary_files() { empty_folder /tmp /var/tmp; }
