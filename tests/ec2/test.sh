#!/usr/bin/env bash
# The rig's own tests: `test.sh fast` needs no machine, `test.sh slow BASE.qcow2` boots real ones; without a word, both.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${DSIMG_EC2_RIG:-/var/tmp/ec2-rig}
python=$("$here/rig.sh" venv)
export PYTHONPYCACHEPREFIX=$work/pycache
cd "$here"

what=${1:-all}
if [[ $what != slow ]]; then
    "$python" -m unittest discover --start-directory tests --top-level-directory . --pattern 'test_*.py'
fi
if [[ $what != fast ]]; then
    export DSIMG_EC2_BASE=${2:-${DSIMG_EC2_BASE:-}}
    "$python" -m unittest discover --start-directory tests --top-level-directory . --pattern 'slow_*.py'
fi
