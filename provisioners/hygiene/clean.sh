#!/usr/bin/env bash
# Takes the build's traces and the machine's own identity out of the image. H-numbers: see README.md.
#
# It is the last thing that runs. dsimg starts it with the power-off in the same command, because the login is gone
# after it, and with `--force`: services that stop in order would write seeds, logs and login records once more.
set -euo pipefail
shopt -s nullglob dotglob
. common/messages.sh
. ./files.sh
. ./login.sh
. ./identity.sh
. ./traces.sh
. ./network.sh
. ./params.sh

main() {
  say 'taking the build out of the image'
  find_homes
  keep_or_drop_network     # H22
  stop_writers             # so that H16, H18 and H19 stay as they are left
  remove_build_keys        # H3
  remove_build_login       # H9
  remove_known_hosts       # H5
  remove_histories         # H6
  remove_account_backups   # H10
  remove_cloud_init_state  # H11, H12, H13
  reset_network_identity   # H14, H15, H17
  reset_random_seed        # H16
  remove_host_keys         # H2
  remove_package_leftovers # H20, H23, H27
  remove_caches            # H21
  remove_crash_dumps       # H25
  remove_mail_and_jobs     # H26, H27
  remove_temporary_files   # H24
  empty_logs               # H18, H19
  reset_machine_id         # H1; last of all, because tools that run before may ask for it
  flush_disks              # H39
  report
}

flush_disks() {
  sync
  # Blocks that no file uses go back to the host: they hold what was deleted, and would be part of the image.
  if [[ -d /run/systemd/system ]]; then fstrim --all --quiet-unsupported 2>/dev/null || true; fi
  sync
}

report() {
  local used
  { read -r _ && read -r used; } < <(df -BM --output=used /)
  say "the image's root file system holds ${used}B"
}

main
