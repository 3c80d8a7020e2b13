"""What administrators write as amounts of money, rates and quotas, as the numbers they mean.

Money is an integer of micro-units (a millionth of the currency's unit), never a float.
"""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from hub.domain.rules import Period

MICRO: Final = 1_000_000
"""Micro-units in one unit of a currency."""
MAX_MICRO: Final = 10**15
"""The largest amount: a thousand million units. Sums of it stay exact in 53 bits, which is what
numbers of a Redis script have."""
MAX_COUNT: Final = 10**12
"""The largest count of a rate or quota."""

_MONEY: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,6}))? ([A-Z]{3})")
_PER: Final = re.compile(r"([0-9]{1,13})/([a-z]+)")
_WINDOWS_S: Final[Mapping[str, float]] = {"s": 1.0, "min": 60.0, "h": 3600.0}
_PERIODS: Final[Mapping[str, Period]] = {
    "hour": "hour",
    "day": "day",
    "week": "week",
    "month": "month",
}


class Money(Struct, frozen=True, gc=False):
    """An amount of one currency, in micro-units."""

    micro: int
    currency: str
    """Three capital letters, as ISO 4217 has them."""

    def __str__(self) -> str:
        return format_money(self.micro, self.currency)


def parse_money(text: str) -> Money:
    """An amount with its currency, at most six decimals: ``0.002 USD``. Raises ValueError."""
    match = _MONEY.fullmatch(text)
    if match is None:
        raise ValueError(
            f"'{text}' is no amount; write it with its currency and at most six decimals: 0.002 USD"
        )
    micro = int(match[1]) * MICRO + int((match[2] or "").ljust(6, "0"))
    if micro > MAX_MICRO:
        raise ValueError(f"'{text}' is too much; an amount may be {MAX_MICRO // MICRO} at most")
    return Money(micro, match[3])


def format_money(micro: int, currency: str) -> str:
    """An amount as people write it, exactly: two decimals, more where they say something."""
    whole, rest = divmod(abs(micro), MICRO)
    decimals = f"{rest:06}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole}.{decimals} {currency}".rstrip()


def parse_rate(text: str) -> tuple[int, float]:
    """Calls and the seconds they are counted in: ``20/s``, ``100/min``, ``1000/h``.

    Raises ValueError.
    """
    count, unit = _split(text, _WINDOWS_S, "rate", "20/s, 100/min or 1000/h")
    return count, _WINDOWS_S[unit]


def parse_quota(text: str) -> tuple[int, Period]:
    """Calls and the period of the calendar they are counted in: ``5000/day``.

    Raises ValueError.
    """
    count, unit = _split(text, _PERIODS, "quota", "5000/day; periods are hour, day, week and month")
    return count, _PERIODS[unit]


def _split(text: str, units: Mapping[str, object], what: str, example: str) -> tuple[int, str]:
    match = _PER.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"'{text}' is no {what}; write {example}")
    count = int(match[1])
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(f"'{text}': a {what} counts from 1 to {MAX_COUNT} calls")
    return count, match[2]
