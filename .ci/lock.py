"""Turns pip's installation report (stdin) into the lines of requirements.lock: every package with its hash."""

from __future__ import annotations

import json
import platform
import sys


def main() -> None:
    """Print the lock; the project itself, which has no archive, is left out."""
    python = ".".join(platform.python_version_tuple()[:2])
    print(f"# made by `make lock`; holds for python {python} on {platform.system()} {platform.machine()}")
    for one in sorted(json.load(sys.stdin)["install"], key=lambda each: each["metadata"]["name"].lower()):
        hashes = one["download_info"].get("archive_info", {}).get("hashes")
        if hashes:
            print(f"{one['metadata']['name']}=={one['metadata']['version']} --hash=sha256:{hashes['sha256']}")


if __name__ == "__main__":
    main()
