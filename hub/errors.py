"""What the hub itself raises outside of a call; within a call there is ``Refusal``.

PorticoError
├── ConfigurationError    the file or an object cannot be used as written
├── ForbiddenError        the administrator's role does not reach that far
├── ConflictError         something else owns the object, or it exists
├── NotFoundError         no such object
├── DataDirectoryError    locked by another process, newer schema, not writable
├── StoreUnavailableError the database cannot be reached or does not answer
└── RecordUnavailable     the record cannot be kept: disk full, not writable
"""

from collections.abc import Iterable


class PorticoError(Exception):
    """Anything of this tree; the message names the fix."""


class ConfigurationError(PorticoError):
    """The configuration cannot be used as written; ``problems`` says each thing that is wrong."""

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ForbiddenError(PorticoError):
    """This needs another role than the administrator has."""


class ConflictError(PorticoError):
    """Something else owns the object, or it exists already."""


class NotFoundError(PorticoError):
    """There is no such object."""


class DataDirectoryError(PorticoError):
    """The data directory cannot be used."""


class StoreUnavailableError(PorticoError):
    """The database cannot be reached or does not answer; the same may work later."""


class RecordUnavailable(PorticoError):  # noqa: N818 -- says what is the case
    """The record cannot be kept, so no call may run."""
