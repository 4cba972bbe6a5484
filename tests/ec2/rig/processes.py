"""Child processes that end with the rig, whatever way it ends."""

import concurrent.futures
import ctypes
import signal
import subprocess

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
# The kernel sends the signal when the *thread* that made the child ends, so one thread that lives to the end makes all.
_maker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="processes")


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(command: list[str], **options) -> subprocess.Popen:
    """Starts a program that is killed when the rig ends."""
    return _maker.submit(
        subprocess.Popen, command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent, **options
    ).result()
