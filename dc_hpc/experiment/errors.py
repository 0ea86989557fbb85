"""The one error a person can cause: bad input."""

from __future__ import annotations


class InputError(Exception):
    """Bad input by a person: a grid, a flag, a data file, a folder.

    The message is ONE line that names the bad thing, what is allowed and the next step. The doors print it and
    exit with code 2; nothing has been written when it is raised. `key` is the setting it is about, where there is
    one, so that a reader of files can add the line number.
    """

    def __init__(self, message: str, *, key: str | None = None):
        super().__init__(" ".join(message.split()))
        self.key = key
