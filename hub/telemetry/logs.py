"""Log lines, set up once, with secrets taken out in one place.

Modules write ``getLogger(__name__).info("what happened", extra={"upstream": name})``: the message
is constant, what varies are fields.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["plain", "json"]

_STANDARD: Final = frozenset((
    *logging.makeLogRecord({}).__dict__,
    "message",
    "asctime",
    "taskName",
    "color_message",
))
_KEY: Final = re.compile(r"\bptk_[0-9A-Za-z]+")
_AUTHORIZATION: Final = re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;]+", re.IGNORECASE)
_HIDDEN: Final = "[redacted]"
_SHORTEST_SECRET: Final = 6
"""Shorter values would blank out ordinary words."""


class Redaction:
    """Takes secrets out of text: Portico's keys, credentials of HTTP, and values it was told of."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def hide(self, value: str) -> None:
        """From now on ``value`` is a secret: a resolved header, a password."""
        if len(value) < _SHORTEST_SECRET or value in self._values:
            return
        self._values.add(value)
        longest_first = sorted(self._values, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first)))

    def clean(self, text: str) -> str:
        """``text`` without secrets."""
        if self._known is not None:
            text = self._known.sub(_HIDDEN, text)
        text = _KEY.sub("ptk_" + _HIDDEN, text)
        return _AUTHORIZATION.sub(rf"\1 {_HIDDEN}", text)


class _Lines(logging.Formatter):
    """One line per record, without secrets."""

    def __init__(self, redaction: Redaction, log_format: LogFormat) -> None:
        super().__init__()
        self._clean = redaction.clean
        self._json = log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        cleaned = {name: self._cleaned(value) for name, value in fields.items()}
        if self._json:
            return msgspec.json.encode(cleaned).decode()
        return self._plain(cleaned)

    def _cleaned(self, value: Any) -> Any:
        """Numbers stay numbers; everything else becomes text without secrets."""
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._clean(value if isinstance(value, str) else str(value))

    @staticmethod
    def _plain(fields: dict[str, Any]) -> str:
        time, level, logger, message = (fields.pop(name) for name in list(fields)[:4])
        exception = fields.pop("exception", None)
        rest = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{time} {level:<7} {logger}: {message}{rest}".replace("\n", "\\n")
        return f"{line}\n{exception}" if exception else line


def set_up_logging(
    level: LogLevel, *, log_format: LogFormat = "plain", redaction: Redaction
) -> None:
    """Send every logger's records to standard error, and none anywhere else.

    Libraries speak from ``warning`` on, where ``level`` is ``debug`` from ``info`` on.
    """
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Lines(redaction, log_format))
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel({"debug": "INFO", "error": "ERROR"}.get(level, "WARNING"))
    for package in ("hub", "connectors", "mcp_wire"):
        logging.getLogger(package).setLevel(level.upper())
