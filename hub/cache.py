"""Encoded answers kept for whoever asks the same, bounded by their size."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final

from msgspec import Struct, field

from hub.domain.outcome import Result

MAX_CACHE_BYTES: Final = 64 * 1024 * 1024
MAX_PAGE_BYTES: Final = 1024 * 1024

_OVERHEAD_BYTES: Final = 512
"""What keeping one entry costs beside its bytes."""
MAX_FORMS: Final = 4
"""How many ways to show a page are kept with it: one for each revision in use, mostly."""
_COPIES: Final = 2 + MAX_FORMS
"""A page is kept as it is, within a result, and in each of those ways."""


class Page(Struct, frozen=True, gc=False):
    """Definitions joined to one JSON array, and where the next page begins."""

    items: bytes
    """The array's text, brackets included."""
    last: str | None = None
    """The last name on this page when more follow."""
    shown: dict[bytes, Result] = field(default_factory=dict)
    """The one result that was made of it last, by what else is in it."""


class PageCache:
    """Pages by whatever decides their content; the one used longest ago goes first."""

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._pages: OrderedDict[Hashable, Page] = OrderedDict()
        self._max_bytes = max_bytes
        self.size_bytes = 0
        """What is kept by now."""

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, key: Hashable) -> Page | None:
        """The page kept under ``key``, which counts as its use."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: Hashable, page: Page) -> None:
        """Keep a page, and let go of others until everything fits."""
        self._forget(key)
        self._pages[key] = page
        self.size_bytes += _cost(page)
        while self.size_bytes > self._max_bytes:
            self._forget(next(iter(self._pages)))

    def _forget(self, key: Hashable) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self.size_bytes -= _cost(page)


def join(named: Iterable[tuple[str, bytes]], max_bytes: int = MAX_PAGE_BYTES) -> Page:
    """One page of ``named`` fragments, in their order: as many as fit, and at least one."""
    taken: list[bytes] = []
    size, last = 2, ""
    for name, fragment in named:
        size += len(fragment) + 1
        if taken and size > max_bytes:
            return Page(b"[%b]" % b",".join(taken), last)
        taken.append(fragment)
        last = name
    return Page(b"[%b]" % b",".join(taken))


def _cost(page: Page) -> int:
    return _COPIES * len(page.items) + _OVERHEAD_BYTES
