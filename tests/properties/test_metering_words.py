"""Amounts, rates, quotas and periods: what is written is what is meant."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.domain.metering import Counter
from hub.domain.rules import Period
from hub.metering.money import (
    MAX_MICRO,
    Money,
    format_money,
    parse_money,
    parse_quota,
    parse_rate,
)
from hub.metering.periods import PERIODS, end_of, span_s, start_of
from hub.metering.redis_scripts import Epoch, Scripts

CURRENCIES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2199, 12, 1), timezones=ZONES)  # noqa: DTZ001 -- zones are drawn
PERIOD = st.sampled_from(PERIODS)


@given(st.integers(0, MAX_MICRO), CURRENCIES)
def test_an_amount_reads_back_as_what_was_written(micro: int, currency: str) -> None:
    assert parse_money(format_money(micro, currency)) == Money(micro, currency)
    assert parse_money(str(Money(micro, currency))) == Money(micro, currency)


@given(st.decimals(0, 10**9, places=6, allow_nan=False), CURRENCIES)
def test_an_amount_is_exact_to_a_millionth(amount: Decimal, currency: str) -> None:
    assert parse_money(f"{amount:f} {currency}").micro == amount * 1_000_000


@given(st.integers(-MAX_MICRO, MAX_MICRO))
def test_what_is_shown_is_exact_and_has_two_decimals_or_more(micro: int) -> None:
    amount, _, currency = format_money(micro, "USD").partition(" ")
    assert Decimal(amount) * 1_000_000 == micro
    assert 2 <= len(amount.partition(".")[2]) <= 6
    assert currency == "USD"


def test_amounts_look_as_people_write_them() -> None:
    assert format_money(2_000, "USD") == "0.002 USD"
    assert format_money(100_000_000, "EUR") == "100.00 EUR"
    assert format_money(-1_500_000, "EUR") == "-1.50 EUR"
    assert format_money(0, "") == "0.00"


@pytest.mark.parametrize(
    "text",
    ["", "1", "USD", "1 usd", "1USD", "1  USD", "-1 USD", "+1 USD", "1. USD", ".5 USD", "1,5 USD",
     "1e3 USD", "0.0000001 USD", "1 USD ", "١ USD", "1 US", "1 USDT", "1000000000.000001 USD",
     "99999999999 USD", "1\nUSD", "NaN USD"],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"USD|at most"):
        parse_money(text)


def test_rates_and_quotas_are_a_count_and_a_while() -> None:
    assert parse_rate("20/s") == (20, 1.0)
    assert parse_rate("100/min") == (100, 60.0)
    assert parse_rate("1000/h") == (1000, 3600.0)
    assert parse_quota("5000/day") == (5000, "day")
    assert [parse_quota(f"1/{period}")[1] for period in PERIODS] == list(PERIODS)


@pytest.mark.parametrize(
    "text", ["", "20", "/s", "0/s", "-1/s", "1.5/s", "20 /s", "20/S", "20/day/s", "9" * 13 + "/s"]
)
def test_what_is_no_rate_or_quota_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)
    with pytest.raises(ValueError, match="quota"):
        parse_quota(text.replace("/s", "/day"))


def test_units_of_rates_and_periods_of_quotas_are_kept_apart() -> None:
    with pytest.raises(ValueError, match="100/min"):
        parse_rate("20/day")
    with pytest.raises(ValueError, match="hour, day, week and month"):
        parse_quota("20/s")


@given(PERIOD, MOMENTS)
def test_a_moment_lies_in_its_period_and_the_next_begins_where_it_ends(
    period: Period, at: datetime
) -> None:
    start, end = start_of(period, at), end_of(period, at)
    assert start <= at < end
    assert start.tzinfo is end.tzinfo is UTC
    assert start_of(period, start) == start
    assert start_of(period, end) == end
    assert start_of(period, end - timedelta(microseconds=1)) == start
    assert end_of(period, start) == end


@given(PERIOD, MOMENTS)
def test_both_ways_to_ask_agree(period: Period, at: datetime) -> None:
    expected = (start_of(period, at).timestamp(), end_of(period, at).timestamp())
    assert span_s(period, at.timestamp()) == expected


def test_periods_are_those_of_the_calendar() -> None:
    at = datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)  # a Tuesday
    assert start_of("hour", at) == datetime(2028, 2, 29, 23, tzinfo=UTC)
    assert start_of("day", at) == datetime(2028, 2, 29, tzinfo=UTC)
    assert start_of("week", at) == datetime(2028, 2, 28, tzinfo=UTC)
    assert start_of("month", at) == datetime(2028, 2, 1, tzinfo=UTC)
    assert {end_of(period, at) for period in ("hour", "day", "month")} == {
        datetime(2028, 3, 1, tzinfo=UTC)
    }
    assert end_of("week", at) == datetime(2028, 3, 6, tzinfo=UTC)


def test_what_everybody_has_used_is_remembered_though_the_counter_is_written_anew() -> None:
    scripts = Scripts("portico", "one", lease_s=15, alive_s=5)
    scripts.enter(Epoch("epoch", "server"), is_open=True)
    budget = Counter(key="t/budget.b/tenant:", rule="b", kind="budget", amount=1000, period="day")
    scripts.prepared(budget, 86_400.0).seen = 700
    for anew in (replace(budget, blocks=False), replace(budget, amount=2000)):
        scripts.prepared(anew, 86_500.0)
        assert scripts.recollection()(budget, 86_600.0) == 700
        assert scripts.recollection()(anew, 86_600.0) == 700
    assert scripts.recollection()(budget, 2 * 86_400.0) == 0
    assert scripts.recollection()(replace(budget, period="hour"), 86_600.0) == 0
