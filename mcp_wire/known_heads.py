"""Heads of HTTP messages that were read before: the same bytes are understood without a parser.

Peers repeat themselves: of most requests and answers nothing in the head is new. What was made of it
then is found by its bytes, so that no second reading can differ from the first.
"""

from typing import Final, Generic, TypeVar

Read = TypeVar("Read")

MAX_HEAD_BYTES: Final = 2048
"""Longer ones are read anew each time: strangers shall not fill the memory."""
_END: Final = b"\r\n\r\n"


class KnownHeads(Generic[Read]):
    """What was read in heads that were followed by a body of announced length.

    ``peer`` keeps apart what the same bytes mean from different peers.
    """

    def __init__(self, max_heads: int) -> None:
        """``max_heads``: with more of them, all are forgotten."""
        self._max_heads = max_heads
        self._known: dict[tuple[str, bytes], tuple[int, Read]] = {}

    def find(self, data: bytes, peer: str = "") -> tuple[Read, bytes] | None:
        """What was read in the head, and the body, of the one message that ``data`` is; else None."""
        end = data.find(_END) + 4
        known = self._known.get((peer, data[:end]))
        if known is None or len(data) - end != known[0]:
            return None
        return known[1], data[end:]

    def keep(self, data: bytes, body: bytes, read: Read, peer: str = "") -> None:
        """Remember what was read in the head of a message that came as ``data``, if that is all it was."""
        end = len(data) - len(body)
        if end <= MAX_HEAD_BYTES and data.find(_END) + 4 == end and data.endswith(body):
            if len(self._known) >= self._max_heads:
                self._known.clear()
            self._known[peer, data[:end]] = len(body), read
