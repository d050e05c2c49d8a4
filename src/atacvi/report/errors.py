"""The error of a wrong command or file, told apart from errors of the program."""

from __future__ import annotations


class InputError(Exception):
    """What the user gave cannot be used; the message says what, and how to mend it."""
