"""Virtual environments with other packages than the tests' own, made once in .cache/environments and kept there."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache" / "environments"


def python_with(*requirements: str) -> Path:
    """Return the interpreter of an environment into which pip put these requirements and nothing else.

    A first time takes minutes and the package index.
    """
    wanted = "\n".join([sys.version, *requirements])
    folder = CACHE / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    python, whole = folder / "bin" / "python", folder / "whole"
    if not whole.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        whole.write_text(wanted)
    return python
