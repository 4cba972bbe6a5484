"""Compiles the modules below a folder to bytecode: the same modules to the same bytes.

What a module is compiled to depends a little on what the same process compiled before it: a set of constants that two
functions share becomes two when a name in it was seen in another module (`intern_constants` of CPython). Which of several
workers had a module would show. Here each process compiles one part of one package, in order, from the same start.

usage: bytecode.py FOLDER      prints how many modules there are
"""

import gc
import importlib.util
import os
import py_compile
import sys

# Of one package, in one process: starting one takes as long as compiling a module, in an emulated machine.
PART = 32
# What no program imports stays as it is: half of a small environment's modules, and half of numpy, pandas or scipy.
INSTALLER = "pip"
TESTS = "tests"
# Flags of a `.pyc` that is valid by its source's hash, which is looked at: PEP 552.
CHECKED_HASH = (3).to_bytes(4, "little")


def main():
    (folder,) = sys.argv[1:]
    # No process lives long, and each would copy the pages that a collection writes to.
    gc.disable()
    parts = [part for package in packages(folder) for part in parts_of(package)]
    run(part for part in parts if not all(map(is_compiled, part)))
    print(sum(map(len, parts)))


def packages(folder):
    """The modules of each entry of the folder."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in (INSTALLER, TESTS):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield list(modules(entry.path))
        elif entry.name.endswith(".py"):
            yield [entry.path]


def modules(folder):
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", TESTS))
        yield from (os.path.join(parent, name) for name in sorted(files) if name.endswith(".py"))


def parts_of(package):
    return [package[start : start + PART] for start in range(0, len(package), PART)]


def is_compiled(path):
    try:
        with open(path, "rb") as source, open(importlib.util.cache_from_source(path), "rb") as compiled:
            head = importlib.util.MAGIC_NUMBER + CHECKED_HASH + importlib.util.source_hash(source.read())
            return compiled.read(len(head)) == head
    except OSError:
        return False


def run(parts):
    """One process for each part, as many at a time as there are processors."""
    free = len(os.sched_getaffinity(0))
    failed = 0
    for part in parts:
        if free == 0:
            failed += os.wait()[1] != 0
            free += 1
        if os.fork() == 0:
            os._exit(compile_part(part))
        free -= 1
    try:
        while True:
            failed += os.wait()[1] != 0
    except ChildProcessError:
        pass
    if failed:
        sys.exit(1)


def compile_part(part):
    for path in part:
        try:
            py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        except OSError as error:
            print(f"error: cannot compile {path}: {error.strerror}", file=sys.stderr, flush=True)
            return 1
        except (py_compile.PyCompileError, ValueError, RecursionError):
            # Templates, and tests of what must not compile.
            pass
    return 0


main()
