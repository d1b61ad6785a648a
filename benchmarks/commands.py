"""The command lines of all parts."""

import argparse
from typing import NoReturn

from intrinsic_lr.core.errors import InputError


class Parser(argparse.ArgumentParser):
    """Reads the options of one part, which its module's text describes; a wrong one is answered in one line."""

    def __init__(self, part: str, description: str) -> None:
        super().__init__(
            prog=f"python -m benchmarks {part}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise `InputError`."""
        raise InputError(message)
