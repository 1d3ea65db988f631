"""The one exception that users see: a single line that says what, where, and what to do."""

from pathlib import Path

from unirefine.terminal import printable


class UserError(Exception):
    """A mistake or a fault outside the program: bad input, bad config, missing tool, full disk, corrupt shard.

    `unirefine.cli.main` prints it as one line and exits with status 1; no traceback. Bugs are any other
    exception and keep their traceback.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.line())

    def line(self) -> str:
        """The message on one line: `<where>: <what>; <fix>`."""
        text = f"{self.where}: {self.what}" if self.where is not None else self.what
        text = f"{text}; {self.fix}" if self.fix else text
        return printable(" ".join(text.split()))


def no_directory(path: Path) -> str:
    """What is wrong with a path that should be a directory, and is not: whether a file is there."""
    return "a file, not a directory" if path.exists() else "no such directory"
