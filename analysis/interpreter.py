"""Finds a Python that has h5py, pandas and matplotlib. Standard library only: it runs first."""

import importlib.util
import os
import subprocess
import sys

MODULES = ("h5py", "numpy", "pandas", "matplotlib")
PACKAGES = "python3-h5py python3-pandas python3-matplotlib"
SYSTEM_PYTHON = "/usr/bin/python3"
GUARD = "COPPICE_ANALYSIS_REEXEC"  # one change of interpreter at most


def missing_modules():
    return [name for name in MODULES if importlib.util.find_spec(name) is None]


def system_python_has_them():
    if not os.access(SYSTEM_PYTHON, os.X_OK):
        return False
    probe = (
        "import importlib.util as u, sys;"
        f"sys.exit(any(u.find_spec(m) is None for m in {MODULES!r}))"
    )
    return subprocess.run([SYSTEM_PYTHON, "-c", probe], check=False).returncode == 0


def ensure_modules():
    """Returns when this interpreter has the modules, else becomes one that has, else exits 2."""
    missing = missing_modules()
    if not missing:
        return
    if GUARD not in os.environ and system_python_has_them():
        os.environ[GUARD] = "1"
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])
    print(
        f"{os.path.basename(sys.argv[0])}: error: {sys.executable} lacks {', '.join(missing)};"
        f" on Debian or Ubuntu: apt install {PACKAGES}",
        file=sys.stderr,
    )
    sys.exit(2)
