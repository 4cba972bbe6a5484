# shellcheck shell=bash
# What the work of the build left on the disk. Sourced by clean.sh.

# From here on nothing writes logs to the disk. The rest that services write, they write when they are stopped, and
# the power-off that follows stops none.
stop_writers() {
  [[ -d /run/systemd/system ]] || return 0
  if [[ -e /run/rsyslogd.pid ]]; then systemctl --quiet stop syslog.socket rsyslog.service 2>/dev/null || true; fi
  if compgen -G '/var/log/journal/*' >/dev/null; then journalctl --relinquish-var >/dev/null 2>&1 || true; fi
}

# H18, H19: a log's file stays, because services expect its owner and mode; old ones and those of one-time work go.
empty_logs() {
  empty_folder /var/log/journal /var/log/apt /var/log/unattended-upgrades
  remove /var/log/cloud-init*.log /var/log/installer /var/log/bootstrap.log \
    /var/lib/wtmpdb/wtmp.db* /var/lib/lastlog/lastlog2.db*
  find /var/log -xdev -type f \( \
    \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' \) -delete -o \
    -size +0 -exec truncate --size 0 {} + \)
}

# H20: lists and archives; H23: what kept services from starting; H27: configuration files that upgrades set aside.
remove_package_leftovers() {
  empty_folder /var/lib/apt/lists /var/cache/apt/archives /var/lib/apt/periodic /var/backups
  if has_account _apt; then
    install -d -o _apt -g root -m 700 /var/lib/apt/lists/partial /var/cache/apt/archives/partial
  fi
  remove /var/cache/apt/*.bin /var/lib/dpkg/*-old /var/cache/debconf/*-old /var/lib/apt/daily_lock
  if has_line_with 'made by dsimg' /usr/sbin/policy-rc.d; then rm -f /usr/sbin/policy-rc.d; fi
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
  for home in "${homes[@]}"; do
    if [[ -d $home/.cache ]]; then rmdir --ignore-fail-on-non-empty "$home/.cache"; fi
  done
  remove /var/cache/dsimg /var/cache/ldconfig/aux-cache
}

# H25
remove_crash_dumps() {
  empty_folder /var/crash /var/lib/systemd/coredump /var/lib/systemd/pstore /var/lib/apport/coredump
}

# H26, H27: the build's own; jobs that the template set up for its users stay.
remove_mail_and_jobs() { empty_folder /var/mail /var/spool/cron/atjobs /var/spool/cron/atspool; }

# H24
remove_temporary_files() { empty_folder /tmp /var/tmp; }
