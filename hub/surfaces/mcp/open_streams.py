"""How many streams are open that last until somebody ends them, and who may open another one."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from hub.admission import Admitted
from hub.domain.call import Call
from hub.domain.outcome import Refusal
from hub.domain.principal import Principal

MAX_OF_PRINCIPAL: Final = 64
MAX_OF_PROCESS: Final = 4096

_Owner = tuple[str, str, str]


class OpenStreams:
    """Counts listen streams, streams for server messages and channels, each with its principal.

    Callers without a credential are one principal, so that they count by the address they call from.
    """

    def __init__(
        self, max_of_principal: int = MAX_OF_PRINCIPAL, max_of_process: int = MAX_OF_PROCESS
    ) -> None:
        self._max_of_principal = max_of_principal
        self._max_of_process = max_of_process
        self._open: Counter[_Owner] = Counter()
        self._all = 0

    def check(self, principal: Principal, call: Call) -> None:
        """Raises Refusal ``limit`` when this principal, or the process, has all it may have."""
        if self._all >= self._max_of_process:
            raise Refusal("limit", "Too many streams are open here; try again later.")
        if self._open.get(_owner(principal, call), 0) >= self._max_of_principal:
            raise Refusal(
                "limit",
                f"{self._max_of_principal} streams of yours are open; end one to open another.",
            )

    def check_admitted(self, admitted: Admitted) -> None:
        """The same for a call that asks for a stream."""
        self.check(admitted.principal, admitted.call)

    def take(self, principal: Principal, call: Call) -> Callable[[], None]:
        """One more is open, until what is returned is called; that is idempotent."""
        owner = _owner(principal, call)
        self._open[owner] += 1
        self._all += 1
        is_open = True

        def give_back() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._all -= 1
                self._open[owner] -= 1
                if not self._open[owner]:
                    del self._open[owner]

        return give_back


def _owner(principal: Principal, call: Call) -> _Owner:
    peer = call.evidence.peer if principal.kind == "anonymous" else ""
    return principal.tenant, principal.name, peer
