"""The one error a person can cause: bad input."""

from __future__ import annotations

_LONGEST = 4000  # a value of a grid may be a megabyte


class InputError(Exception):
    """Bad input by a person: a grid, a flag, a data file, a folder.

    The message is ONE printable line that names the bad thing, what is allowed and the next step. Commands print it and
    exit with code 2; nothing has been written when it is raised. `key` is the setting it is about, where there is
    one, so that a reader of files can add the line number.
    """

    def __init__(self, message: str, *, key: str | None = None):
        line = " ".join(message.split())
        line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in line))
        self.key = key
