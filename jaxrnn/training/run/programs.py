"""Compiled programs, kept in the user's cache folder for the next start."""

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax


def keep_programs() -> None:
    """Has JAX keep what it compiles from here on, and look there first.

    Does nothing where JAX has been given a folder, by JAX_COMPILATION_CACHE_DIR or in the
    program, or where the user's cache folder cannot be written to. Tells of the folder on
    stderr when it makes it.
    """
    # Pyright knows no settings of JAX, and `jax.config.read` refuses this one.
    if getattr(jax.config, "jax_compilation_cache_dir") is not None:  # noqa: B009
        return
    try:
        folder = cache_folder() / "programs" / processor()
        if not folder.exists():
            folder.mkdir(parents=True)
            print(f"compiled programs are kept in {folder}", file=sys.stderr)
        if not os.access(folder, os.W_OK):
            return
    except (OSError, RuntimeError):  # the latter where nobody knows a home folder
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Half a second of compiling is worth the 100 kB; the many small ones are not.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cache_folder() -> Path:
    """Where this system has a user's programs keep what they can make again."""
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library/Caches/jaxrnn"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local")) / "jaxrnn/cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "jaxrnn"


def processor() -> str:
    """A name for the kind of processor: a home folder may be that of many machines, and
    a program compiled for one may end another's process."""
    try:
        described = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
        lines = [
            line
            for line in described.splitlines()
            if line.startswith(("model name", "flags", "CPU part", "Features"))
        ]
    except OSError:
        lines = []
    kind = "\n".join([platform.machine(), platform.processor(), *lines])
    return hashlib.sha256(kind.encode()).hexdigest()[:16]
