# A machine that goes on from its memory. $1: the time; random bytes come by stdin.
set -u
date -s "$1" >/dev/null

# Written to the pool, and drawn from anew at once (RNDRESEEDCRNG), for kernels that don't hear of the new generation.
perl -e '
  open my $pool, ">", "/dev/urandom" or exit 1;
  local $/;
  syswrite $pool, scalar <STDIN>;
  ioctl $pool, 0x5207, 0;
' || cat >/dev/urandom

# Connections of before have nobody at their other end.
own=' '
process=$$
while [ "$process" -gt 1 ]; do
  own="$own$process "
  read -r _ _ _ process _ < <(sed 's/([^)]*)/name/' "/proc/$process/stat")
done
for folder in /proc/[0-9]*; do
  process=${folder#/proc/}
  { read -r name <"$folder/comm"; } 2>/dev/null || continue
  case $name in
    sshd | sshd-session | sshd-auth)
      case $own in *" $process "*) ;; *) kill -KILL "$process" 2>/dev/null ;; esac ;;
  esac
done
exit 0
