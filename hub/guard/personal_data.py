"""Personal data in what goes in and out: what has a shape, or a checksum, that tells it from other text."""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from msgspec import Struct

from hub.errors import ConfigurationError
from hub.guard.patterns import Pattern, PatternGuard
from hub.guard.protocol import Guard
from hub.guard.stream import LOOK_BACK_CHARS

_NOT_DIGITS: Final = re.compile(r"\D+")
_NO_TOP_LEVEL: Final = frozenset((
    "local",
    "localhost",
    "invalid",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "js",
    "css",
    "py",
))
"""Ends of what looks like the host of an address and is none: files are called ``logo@2x.png``."""
_AUTHORITY: Final = re.compile(r"://[^\s/?#]*$")
"""In front of a host in a URL; what it holds so far are a user and a password."""
_VERSION: Final = re.compile(r"(?i)(?:\bv|version|\bver|release|build|kernel|firmware)[ .:=]{0,2}$")
_DIGIT_BEFORE: Final = re.compile(r"\d[ /-]$")
_DATE: Final = re.compile(
    r"(?:19|20)\d\d[-./ ](?:0\d|1[0-2])[-./ ][0-3]\d|\b[0-3]?\d[-./][0-3]?\d[-./](?:19|20)\d\d"
)
_FRACTION: Final = re.compile(r"\d{1,2}\.\d+")
_CARD_PREFIX: Final = re.compile(
    r"4(?:\d{15}|\d{18})$|(?:5[1-5]|2[2-7])\d{14}$|3[47]\d{13}$|3(?:0[0-5]|[68]\d)\d{11}$"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}$|35(?:2[89]|[3-8]\d)\d{12}$|62\d{14,17}$"
)
_IBAN_CHARS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Lengths by country, from the registry of ISO 13616."""


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which personal data is looked for."""

    kinds: tuple[str, ...] = ()
    """Of :data:`KINDS`; empty: all."""


def guard(options: Options) -> Guard:
    """The guard. Raises ConfigurationError for a kind that is not known."""
    unknown = sorted(set(options.kinds) - set(KINDS))
    if unknown:
        raise ConfigurationError(f"no such kind: {', '.join(unknown)}; known: {', '.join(KINDS)}")
    wanted = options.kinds or KINDS
    return PatternGuard([one for one in _PATTERNS if one.label in wanted])


def _is_email(text: str, start: int, end: int) -> bool:
    """Whether it is no file, no user of a repository, and no password in a URL."""
    local, _, host = text[start:end].rpartition("@")
    return not (
        ".." in local
        or text[start - 1 : start] in {".", "%", "+", "-"}
        or host.rpartition(".")[2].lower() in _NO_TOP_LEVEL
        or (local == "git" and text[end : end + 1] in {":", "/"})
        or _AUTHORITY.search(text[max(start - LOOK_BACK_CHARS, 0) : start])
    )


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a number is not the middle of a longer one, an identifier or a path."""
    before = text[max(start - 2, 0) : start]
    behind = text[end : end + 1]
    return not (
        before[-1:].isalnum()
        or before[-1:] in {"_", "/", "#", "$", "€", "£"}
        or (before[-1:] in {".", "-", ",", ":", "+"} and before[:1].isalnum())
        or behind.isalnum()
        or behind in {"_", "/", "%"}
    )


def _is_card(text: str, start: int, end: int) -> bool:
    """Whether a card network issues such numbers, and the check digit is right (ISO 7812, Luhn)."""
    digits = _NOT_DIGITS.sub("", text[start:end])
    if not _stands_alone(text, start, end) or _CARD_PREFIX.match(digits) is None:
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _is_iban(text: str, start: int, end: int) -> bool:
    """Whether the country and its length fit, and the check digits are right (ISO 13616, mod 97)."""
    account = re.sub(r"[ -]", "", text[start:end]).upper()
    if _IBAN_CHARS.get(account[:2]) != len(account):
        return False
    number = "".join(str(int(one, 36)) for one in account[4:] + account[:4])
    return int(number) % 97 == 1


def _is_ssn(text: str, start: int, end: int) -> bool:
    """Whether such a number is given out: no part is all zeros, the area not 666 or from 900 on."""
    number = _NOT_DIGITS.sub("", text[start:end])
    area, group, serial = number[:3], number[3:5], number[5:]
    return (
        _stands_alone(text, start, end)
        and area not in {"000", "666"}
        and area < "900"
        and group != "00"
        and serial != "0000"
        and number not in {"078051120", "219099999"}
    )


def _is_address(text: str, start: int, end: int) -> bool:
    """Whether it is an address of a machine, and no version and none that every machine has."""
    return not (
        text[start - 1 : start] in {".", "-", "_"}
        or text[start:end].startswith(("127.", "0.", "255."))
        or _VERSION.search(text[max(start - LOOK_BACK_CHARS, 0) : start])
    )


def _is_long_address(text: str, start: int, end: int) -> bool:
    if not _stands_alone(text, start, end) or text[end : end + 1] == ":":
        return False
    try:
        IPv6Address(text[start:end])
    except AddressValueError:
        return False
    return True


def _is_phone(text: str, start: int, end: int) -> bool:
    """Whether it has as many digits as a telephone number (ITU-T E.164), and is no date and no fraction."""
    number = text[start:end]
    digits = _NOT_DIGITS.sub("", number)
    return (
        7 <= len(digits) <= 15
        and len(set(digits)) > 2
        and _stands_alone(text, start, end)
        and _DATE.search(number) is None
        and _FRACTION.fullmatch(number) is None
        and (number[0] == "+" or _DIGIT_BEFORE.search(text[max(start - 2, 0) : start]) is None)
    )


def _is_national_phone(text: str, start: int, end: int) -> bool:
    digits = _NOT_DIGITS.sub("", text[start:end])
    return 9 <= len(digits) <= 12 and _is_phone(text, start, end)


def _iban_regex() -> str:
    by_size: dict[int, list[str]] = {}
    for country, size in _IBAN_CHARS.items():
        by_size.setdefault(size, []).append(country)
    forms = (
        rf"(?:{'|'.join(countries)})\d{{2}}(?:[ -]?[A-Z0-9]){{{size - 4}}}"
        for size, countries in sorted(by_size.items(), reverse=True)
    )
    return rf"(?i)\b(?:{'|'.join(forms)})\b"


_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_NUMBER: Final = r"\+?\(?\d(?:[ ().-]{0,2}\d){6,14}"

_PATTERNS: Final = (
    Pattern(
        "email",
        r"\b[A-Za-z0-9_][A-Za-z0-9._%+'-]{0,63}@(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,}\b",
        _is_email,
    ),
    Pattern("iban", _iban_regex(), _is_iban),
    Pattern(
        "credit_card",
        r"\b(?:\d{4}[ .-]\d{4}[ .-]\d{4}[ .-]\d{4}(?:[ .-]\d{3})?|\d{4}[ .-]\d{6}[ .-]\d{4,5}|\d{14,19})\b",
        _is_card,
    ),
    Pattern("us_ssn", r"\b\d{3}(?:-\d{2}-| \d{2} )\d{4}\b", _is_ssn),
    Pattern(
        "us_ssn",
        r"(?i)\b(?:ssn|social[ _]security(?:[ _](?:number|no|num))?)\W{0,4}(?:is )?(\d{9})\b",
        _is_ssn,
    ),
    Pattern(
        "ip_address",
        rf"\b((?:{_OCTET}\.){{3}}{_OCTET})(?:[^\w.-]|\.(?:\D|\z)|\z)",
        _is_address,
    ),
    Pattern(
        "ip_address",
        r"(?i)\b(?:[23][0-9a-f]{3}|f[cde][0-9a-f]{2})(?::[0-9a-f]{0,4}){2,7}",
        _is_long_address,
    ),
    Pattern(
        "phone",
        r"\+[1-9]\d{0,2}(?:[ .-]?\(0\))?(?:[ ().-]{0,2}\d){6,14}",
        _is_phone,
    ),
    Pattern("phone", r"\b00[1-9]\d{0,2}(?:[ ()./-]{1,2}\d{1,8}){2,6}", _is_phone),
    Pattern(
        "phone",
        r"(?:\b1[-. ])?(?:\([2-9]\d\d\) ?|\b[2-9]\d\d[-.])[2-9]\d\d[-. ]\d{4}\b",
        _is_phone,
    ),
    Pattern(
        "phone",
        r"\(?\b0\d{1,4}\)?[ /-]{1,3}\d{3,8}(?:[ -]\d{2,8}){0,3}|\b0[1-9](?:[ .]\d\d){4}\b",
        _is_national_phone,
    ),
    Pattern(
        "phone",
        r"(?i)(?:phone|\btel(?:ephone|efon)?|mobile|\bcell|\bfax|whatsapp|\bhandy)(?:[ _-]?(?:number|no|nr|num))?"
        rf"[\"']?\s{{0,2}}[.:=\x1f]{{0,2}}\s{{0,2}}[\"']?({_NUMBER})",
        _is_phone,
    ),
)
KINDS: Final = tuple(dict.fromkeys(one.label for one in _PATTERNS))
"""What can be looked for; also the labels of what is found."""
