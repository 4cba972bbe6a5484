# The dead man's timer: an instance whose dsimg is gone powers itself off, and EC2 ends it for that.
# $1: when, in seconds since 1970; $2: how long that is from the start at most, for a clock that is wrong.
left=$(($1 - $(date +%s)))
[ "$left" -le "$2" ] || left=$2
[ "$left" -ge 60 ] || left=60
# Not `shutdown +N`: the login manager that counts for it does not run yet.
# Without the dependencies that timers have by default: they would make it wait for this very boot stage, which waits for
# the command, whatever `--no-block` says.
systemd-run --no-block --unit=dsimg-time-limit --timer-property=DefaultDependencies=no --on-active="${left}s" \
    systemctl poweroff --force >/dev/null 2>&1 && exit
(sleep "$left" && poweroff -f) </dev/null >/dev/null 2>&1 &
