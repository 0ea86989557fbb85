"""An object that makes a file when it is unpickled, so that a test sees whether a program read its pickle."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


class Canary:
    """Unpickling it makes the file `path`."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {shlex.quote(str(self.path))}",)
