"What must be settled before torch and numba are loaded: how idle threads wait, and where compiled kernels are kept"

import atexit
import os
import shutil
import sys
import tempfile


def let_threads_sleep() -> bool:
    """Idle threads of torch and numba must not take each other's cores.

    They wait for half a millisecond before they sleep: to be woken takes longer than most pauses. A choice that the
    user made stays. Returns whether torch's threads will spin all the same, because torch was loaded before or because
    the user asked for it: of that the rasterizer warns.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return os.environ["OMP_WAIT_POLICY"].upper() == "ACTIVE"

    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    return "torch" in sys.modules


def writable(folder: str) -> bool:
    "Whether files can be made in a folder, which is made where it is missing"
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def keep_kernels():
    "numba loads no kernels that it can keep nowhere: where neither of its places can be written to, it gets a third"
    beside = os.path.join(os.path.dirname(__file__), "splat", "__pycache__")
    of_user = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "numba")
    if "NUMBA_CACHE_DIR" in os.environ or writable(beside) or writable(of_user):
        return

    folder, maker = tempfile.mkdtemp(prefix="lucidteach-"), os.getpid()
    os.environ["NUMBA_CACHE_DIR"] = folder

    def clear():
        if os.getpid() == maker:  # not at the end of a forked child
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(clear)
    print(
        f"Compiled kernels can be kept neither in {beside} nor in {of_user}: every process compiles its own. "
        "NUMBA_CACHE_DIR names another folder.",
        file=sys.stderr,
    )
