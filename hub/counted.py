"""What limits and budgets are counted with, and what the counts of each are about."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from importlib import import_module

from hub.domain.metering import Counter
from hub.ground import Ground
from hub.ledger.projection import Terms
from hub.metering.count_keys import read_key
from hub.metering.counting import Counting
from hub.metering.local import LocalCounting
from hub.snapshot import SnapshotHolder


def terms_of(snapshots: SnapshotHolder) -> Terms:
    """By key of a count: the quota or budget as it is configured now; None where there is none."""

    def terms(key: str) -> Counter | None:
        read = read_key(key)
        tenant = None if read is None else snapshots.current.tenants.get(read.tenant)
        if read is None or tenant is None:
            return None
        return tenant.rules.counter(read.kind, read.rule, read.per)

    return terms


def counting_of(
    ground: Ground,
    terms: Terms,
    redis_url: str | None,
    processes: int,
    now: Callable[[], datetime],
) -> Counting:
    """Counts in Redis where one is named, else in this process; both begin with the ledger's.

    ``processes``: how many count in that Redis at least. Raises ConfigurationError for a URL that is
    none.
    """
    refill = partial(ground.ledger.spent, terms)
    if redis_url is None:
        return LocalCounting(now, refill)
    # What speaks to Redis costs nothing where nobody named one.
    shared = import_module("hub.metering.shared")
    counting: Counting = shared.SharedCounting(
        shared.SharedSettings(url=ground.secret(redis_url), processes=processes), now, refill
    )
    return counting
