"""The one error a user may see, and the one signal that stops work.

MilError    bad input or a bad request: what is wrong, where, and what to do
  Damaged   a folder does not hold what was written to it
Cancelled   somebody asked a long step to stop

Anything else that is raised is a bug and is shown as one.
"""

from __future__ import annotations

__all__ = ["Cancelled", "Damaged", "MilError"]


class MilError(Exception):
    """A problem the user can mend: `problem` quotes the value, `where` names file or column, `fix` what to do."""

    def __init__(self, problem: str, where: str = "", fix: str = "") -> None:
        super().__init__(problem, where, fix)
        self.problem, self.where, self.fix = problem, where, fix

    def __str__(self) -> str:
        return "\n".join(part for part in (self.problem, self.where, self.fix) if part)


class Damaged(MilError):
    """A folder that was written whole and no longer is."""


class Cancelled(Exception):
    """Raised inside a long step after its caller asked it to stop."""
