# Prints facts about the system: name, tab, value.
. /etc/os-release
printf 'epoch\t%s\n' "$(cat /var/cache/dsimg/epoch)"
printf 'os\t%s\n' "$PRETTY_NAME"
printf 'os_id\t%s\n' "$ID"
printf 'os_version\t%s\n' "${DEBIAN_VERSION_FULL:-${VERSION_ID:-}}"
# The kernel that the image will boot, which an upgrade may have made another than the one that runs.
newest=$(ls -d /lib/modules/*/kernel 2>/dev/null | sort -V | tail -n 1)
newest=${newest%/kernel}
printf 'kernel\t%s\n' "${newest##*/}"
printf 'architecture\t%s\n' "$(dpkg --print-architecture 2>/dev/null || uname -m)"
if command -v python3 >/dev/null; then
  # `Python 3.13.5`
  python=$(python3 --version)
  printf 'python\t%s\n' "${python#* }"
fi
if [ -e /usr/lib/R/library/base/DESCRIPTION ]; then
  printf 'r\t%s\n' "$(sed -n 's/^Version: //p' /usr/lib/R/library/base/DESCRIPTION)"
elif command -v R >/dev/null; then
  printf 'r\t%s\n' "$(R --version | sed -n '1s/^R version \([^ ]*\).*/\1/p')"
fi
