"""What the hub itself raises outside of a call; within a call there is ``Refusal``.

PorticoError
├── ConfigurationError    the file or an object cannot be used as written
├── ConflictError         something else owns the object, or it exists
├── NotFoundError         no such object
├── DataDirectoryError    locked by another process, newer schema, not writable
└── RecordUnavailable     the record cannot be kept: disk full, not writable
"""


class PorticoError(Exception):
    """Anything of this tree; the message names the fix."""


class ConfigurationError(PorticoError):
    """The configuration cannot be used as written."""


class ConflictError(PorticoError):
    """Something else owns the object, or it exists already."""


class NotFoundError(PorticoError):
    """There is no such object."""


class DataDirectoryError(PorticoError):
    """The data directory cannot be used."""


class RecordUnavailable(PorticoError):
    """The record cannot be kept, so no call may run."""
