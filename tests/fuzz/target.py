"""What is fuzzed: one input from outside as bytes, and what holds whatever they are."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

CORPUS: Final = Path(__file__).parent / "corpus"

Value = TypeVar("Value")
Refused = TypeVar("Refused", bound=Exception)

Check = Callable[[bytes], None]
"""Takes one input; raises for a finding, AssertionError or whatever the product let through."""


class Target(Struct, frozen=True):
    """One input from outside."""

    name: str
    """Also the folder of its corpus."""
    opened: Callable[[], AbstractContextManager[Check]]
    """What has to run while inputs are checked."""
    words: tuple[bytes, ...] = ()
    """Pieces that inputs of this kind are made of."""
    max_bytes: int = 4096

    @property
    def corpus(self) -> list[Path]:
        """The kept inputs, by name."""
        return sorted(path for path in (CORPUS / self.name).iterdir() if path.is_file())


def pure(check: Check) -> Callable[[], AbstractContextManager[Check]]:
    """``opened`` of a check that needs nothing."""

    @contextmanager
    def opened() -> Iterator[Check]:
        yield check

    return opened


def tried(read: Callable[[], Value], refused: type[Refused]) -> Value | Refused:
    """What reading gives, or the one exception that it may raise, with words that can be sent."""
    try:
        return read()
    except refused as error:
        str(error).encode()
        return error
