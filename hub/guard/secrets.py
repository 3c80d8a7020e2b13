"""Secrets in what goes in and out: tokens of a known shape, private keys, and passwords by their name."""

import re
from collections import Counter
from math import log2
from typing import Final

from msgspec import Struct

from hub.errors import ConfigurationError
from hub.guard.content import NAME_END, VALUE_END
from hub.guard.patterns import Pattern, PatternGuard
from hub.guard.protocol import Guard
from hub.guard.stream import LOOK_BACK_CHARS

_LEAST_ENTROPY_BITS: Final = 2.5
_NUMBER_LIKE: Final = re.compile(r"[\d.,:/+\-TZ ]+")
_PLACEHOLDER: Final = re.compile(
    r"(?i)^[$%{<\[(]|^(?:env|file|vault|ref|op|sops|arn|https?):"
    r"|^(?:none|null|nil|undefined|string|required|optional|redacted|hidden|masked|example|sample|changeme"
    r"|placeholder|(?:os\.environ|process\.env|(?:your|my|the|some|new|old|insert|enter)[-_ ]).*"
    r"|\S+\.(?:get|env|read|fetch|load)\S*)$"
    r"|^(.)\1*$|\*{3}|x{4}|\.{3}|…"
)
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+(?:[-_./:@][A-Z]?[a-z]+)*|[A-Z]+(?:_[A-Z]+)*")
_OTHER_TOKEN: Final = re.compile(
    r"(?i)(?:next|page|continuation|progress|sync|cursor|cancel|pagination|resume|csrf|xsrf|sort)"
)
"""Tokens by name that give nobody access."""


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which secrets are looked for."""

    kinds: tuple[str, ...] = ()
    """Of :data:`KINDS`; empty: all."""


def guard(options: Options) -> Guard:
    """The guard. Raises ConfigurationError for a kind that is not known."""
    unknown = sorted(set(options.kinds) - set(KINDS))
    if unknown:
        raise ConfigurationError(f"no such kind: {', '.join(unknown)}; known: {', '.join(KINDS)}")
    wanted = options.kinds or KINDS
    return PatternGuard([one for one in _PATTERNS if one.label in wanted])


def _entropy(text: str) -> float:
    """Bits a character, by how often each stands in the text."""
    size = len(text)
    return -sum(n / size * log2(n / size) for n in Counter(text).values())


def _is_drawn(text: str, start: int, end: int) -> bool:
    """Whether what follows a known prefix may have been drawn at random: fillers were not."""
    _, *drawn = re.split("[-_./]", text[start:end])
    return max(map(_entropy, ["".join(drawn), *drawn])) >= _LEAST_ENTROPY_BITS


def _has_digit(text: str, start: int, end: int) -> bool:
    """The same for a short prefix that words may begin with as well."""
    return any(map(str.isdigit, text[start:end])) and _is_drawn(text, start, end)


def _is_varied(text: str, start: int, end: int) -> bool:
    return _entropy(text[start:end]) >= _LEAST_ENTROPY_BITS


def _is_password(text: str, start: int, end: int) -> bool:
    """Whether the value of a member that is called password may be one; words may."""
    value = text[start:end]
    return not (_PLACEHOLDER.search(value) or value.lower() in {"password", "passwd", "secret"})


def _is_secret(text: str, start: int, end: int) -> bool:
    """Whether what is assigned to a name like ``api_key`` is one, and not a word about one."""
    value = text[start:end]
    if (
        text[end : end + 1] == "("
        or not value.isascii()
        or _PLACEHOLDER.search(value)
        or _NUMBER_LIKE.fullmatch(value)
    ):
        return False
    if _WORDS.fullmatch(value) or _OTHER_TOKEN.search(
        text[max(start - LOOK_BACK_CHARS, 0) : start]
    ):
        return False
    return _is_varied(text, start, end)


_BREAK: Final = r"(?:\s|\\[nr])"
_PASSWORD_NAME: Final = r"(?:passw(?:or)?d|(?:\b|_)(?:pwd|pass|passphrase|passcode))"  # noqa: S105 -- a pattern
_NAME: Final = (
    r"(?:password|passwd|secret|token|api[_-]?key|credentials?|(?:\b|_)(?:pwd|pass|passphrase)"
    r"|(?:access|secret|private|auth|account|signing|encryption|shared|master|session|storage|license)"
    r"[_-]?key)"
)
# What a value may hold, no name or prefix may begin in, or be bounded: else hostile text costs its square.
_VALUE: Final = r"[^\s\"'`<>,;&{}()\[\]\x00\x1f\\=:]"

_PATTERNS: Final = (
    Pattern(
        "private_key",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        rf"{_BREAK}*(?:[A-Za-z-]+: [^\r\n\x00\x1f]*{_BREAK}+){{0,4}}"
        rf"(?:[A-Za-z0-9+/=]{{16,}}{_BREAK}*)+(?:[A-Za-z0-9+/=]{{1,15}}{_BREAK}*)?"
        r"(?:-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    Pattern("portico_key", r"\bptk_[0-9A-Za-z]{49}\b", _is_drawn),
    Pattern("aws_access_key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", _is_varied),
    Pattern(
        "aws_secret_key",
        r"(?i)\baws[_-]?secret[_-]?(?:access[_-]?)?key[\"']?\s{0,3}(?:=>|[:=\x1f])\s{0,3}[\"']?"
        r"([a-z0-9/+]{40})\b",
        _is_varied,
    ),
    Pattern("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})\b", _is_drawn),
    Pattern(
        "gitlab_token",
        r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|oas|imt)-[A-Za-z0-9_-]{20,}",
    ),
    Pattern(
        "slack_token",
        r"\bxox[abeoprs]-(?:[0-9A-Za-z]+-){1,5}[0-9A-Za-z]{8,}"
        r"|\bxapp-\d-[0-9A-Z]{6,16}-\d{6,16}-[0-9a-f]{16,}"
        r"|\bhooks\.slack\.com/(?:services|workflows|triggers)/[\w/]{20,}",
        _is_drawn,
    ),
    Pattern("anthropic_key", r"\bsk-ant-[a-z0-9]{2,16}-[A-Za-z0-9_-]{20,}"),
    Pattern("openai_key", r"\bsk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,}"),
    Pattern("openai_key", r"\bsk-[A-Za-z0-9]{20,}", _has_digit),
    Pattern(
        "google_key",
        r"\bAIza[A-Za-z0-9_-]{35}|\bGOCSPX-[A-Za-z0-9_-]{28}|\bya29\.[A-Za-z0-9_-]{20,}",
        _is_varied,
    ),
    Pattern(
        "stripe_key",
        r"\b(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,}|\bwhsec_[0-9A-Za-z+/]{24,}",
        _is_drawn,
    ),
    Pattern("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    Pattern(
        "assigned_secret",
        rf"(?i){_PASSWORD_NAME}{NAME_END}([^\s\x00\x1f]{{4,}}){VALUE_END}",
        _is_password,
    ),
    Pattern(
        "assigned_secret", rf"(?i){_NAME}{NAME_END}({_VALUE}{{6,}}={{0,2}}){VALUE_END}", _is_secret
    ),
    Pattern(
        "assigned_secret",
        rf"(?i){_NAME}[\"'`]?(?:\s{{0,3}}(?::=|=>|[:=>])\s{{0,3}}|\s+is:?\s)[\"'`]?({_VALUE}{{6,}}={{0,2}})",
        _is_secret,
    ),
    Pattern(
        "assigned_secret",
        rf"(?i)\B--?(?:password|passwd|token|secret|api-?key)\s+[\"']?({_VALUE}{{6,}}={{0,2}})",
        _is_secret,
    ),
    Pattern("assigned_secret", r"(?i)\b(?:bearer|basic)\s+([a-z0-9+/_.~-]{16,}=*)", _is_secret),
    Pattern("assigned_secret", r"://[^\s:/@\x00]*:([^\s/@\x00\x1f]{3,})@", _is_password),
)
KINDS: Final = tuple(dict.fromkeys(one.label for one in _PATTERNS))
"""What can be looked for; also the labels of what is found."""
