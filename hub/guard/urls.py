"""URLs in content: their hosts must be on a list, however they are written.

Where programs disagree on which host a text names, every reading has to be on the list.
"""

import ipaddress
import re
import socket
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

from hub.domain.guarding import Context, Span, Verdict
from hub.errors import ConfigurationError
from hub.guard.content import Content
from hub.guard.patterns import Hit, Next, verdict_of
from hub.guard.protocol import Guard

LABEL: Final = "url"
MAX_SCHEME: Final = 32
MAX_HOST: Final = 253
"""Characters of a name (RFC 1035 2.3.4)."""
MAX_URL: Final = 8192
"""Characters of one URL that are cut out at the most."""
MAX_AUTHORITY: Final = 1024
"""Characters before the path; of a longer one no host can be told."""

_NETWORK_SCHEMES: Final = frozenset((
    "amqp", "amqps", "dict", "file", "ftp", "ftps", "git", "gopher", "http", "https", "imap",
    "imaps", "irc", "ircs", "ldap", "ldaps", "mongodb", "mqtt", "mqtts", "mysql", "nfs", "pop3",
    "postgres", "postgresql", "rdp", "redis", "rediss", "rsync", "rtsp", "sftp", "sip", "smb",
    "smtp", "smtps", "ssh", "stun", "svn", "tcp", "telnet", "tftp", "turn", "udp", "vnc", "webdav",
    "ws", "wss", "xmpp",
))  # fmt: skip
"""Schemes whose hosts are hosts, even ``localhost``; others name hosts when it looks so."""

_WEB: Final = frozenset(("http", "https", "ws", "wss", "ftp"))
"""Schemes that browsers take with any number of slashes, either way round (WHATWG URL, "special")."""

_MAY_HOLD: Final = ("//", "\\\\", ":/", ":\\", "%2", "www.", "http")
_START: Final = re.compile(
    r"""(?x)  # each alternative begins with a sign of its own, so that other text is skipped quickly
    (?P<scheme> :[/\\]{2,} )                                           # https://
    | (?P<few> :(?<=[pPwW][sS]:|[tTwW][pPsS]:)[/\\]?(?=[\w\[]) )         # https:/host, https:host
    | (?P<encoded> %(?:25)*3[aA](?:%(?:25)*(?:2[fF]|5[cC])){2,} )       # https%3A%2F%2F
    | (?P<bare> /(?<![\w:/\\.%-]/)/+(?=[\w\[%]) | \\(?<![\w:/\\.%-]\\)\\(?=[\w\[])
        | [wW](?<![\w:/\\.%-][wW])[wW]{2}\.(?=\w) )
    """
)
_SCHEME_LETTERS: Final = string.ascii_letters + string.digits + "+.-"
_NO_FIRST_LETTERS: Final = string.digits + "+.-"
_STOP: Final = re.compile(r"[\s\x00-\x20\"<>`{}|^\x7f]")
_LATE: Final = re.compile(r"[\t\n\r]+(?=[.@])")
_ENCODED_END: Final = re.compile(r"[&;,)\]]")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_TRAILING: Final = ".,;:!?'\")]}*_"
_NAME: Final = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
)
_TOP: Final = re.compile(r"[a-z]{2,}|xn--[a-z0-9-]+")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEVIATING: Final = re.compile("[\u00df\u03c2\u200c\u200d]")


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which hosts may occur."""

    allow: tuple[str, ...] = ()
    """Hosts; ``*.example.org`` for everything below one; ``https://`` in front: with that scheme only.
    None: no URL may occur."""


def guard(options: Options) -> Guard:
    """The guard. Raises ConfigurationError for what is no host."""
    return _Urls([_entry(text) for text in options.allow])


class _Entry(Struct, frozen=True):
    host: str
    is_suffix: bool
    scheme: str

    def fits(self, scheme: str, host: str) -> bool:
        if self.scheme and self.scheme != scheme:
            return False
        return host.endswith(self.host) if self.is_suffix else host == self.host


class _Found(Struct, frozen=True):
    start: int
    end: int
    scheme: str
    hosts: frozenset[str]
    """Every host it may lead to; the empty one stands for one that cannot be told."""


class _Urls:
    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = entries

    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`. Raises Unreadable."""
        del context
        return verdict_of(hit.span for hit in self.hits(content.text))

    def hits(self, text: str, start: int = 0) -> list[Hit]:
        """See :meth:`hub.guard.patterns.PatternGuard.hits`."""
        lower = text.lower()
        if not any(sign in lower for sign in _MAY_HOLD):
            return []
        found: list[Hit] = []
        for url in _urls(text):
            if url.start < max(start, found[-1].span.end if found else 0):
                continue  # it stands within one that goes anyway
            if not all(self._is_allowed(url.scheme, host) for host in url.hosts):
                found.append(Hit(url.start, Span(url.start, url.end, LABEL)))
        return found

    def _is_allowed(self, scheme: str, host: str) -> bool:
        return any(entry.fits(scheme, host) for entry in self._entries)

    def open_from(self, text: str, start: int = 0) -> int:
        """Where a URL may still go on: at the last piece without white space."""
        at = len(text.rstrip("\t\n\r"))
        while at > start and _STOP.match(text, at - 1) is None:
            at -= 1
        return max(at, start)


def _entry(text: str) -> _Entry:
    scheme, mark, rest = text.strip().rpartition("://")
    is_suffix = rest.startswith("*.")
    host = _normal(rest.removeprefix("*."))
    is_name = bool(host) and (_NAME.fullmatch(host) is not None or "[" in host)
    if not is_name or (mark and _scheme_before(scheme, len(scheme)) != scheme.lower()):
        raise ConfigurationError(f"{text!r} is no host, '*.' and a host, or a scheme and a host")
    return _Entry("." + host if is_suffix else host, is_suffix, scheme.lower())


def _urls(text: str) -> Iterator[_Found]:
    """Every URL in ``text``, those within others too."""
    stops = Next(_STOP, text)
    for sign in _START.finditer(text):
        kind = sign.lastgroup or ""
        scheme = "" if kind == "bare" else _scheme_before(text, sign.start())
        if not scheme and kind != "bare":
            continue
        rest_at = sign.start() if sign[0].lower() == "www." else sign.end()
        end = min(stops.after(rest_at), rest_at + MAX_URL)
        if kind == "encoded":
            end = rest_at + len(_ENCODED_END.split(text[rest_at:end], maxsplit=1)[0])
        is_cut = end - rest_at > MAX_AUTHORITY
        rest = text[rest_at : min(end, rest_at + MAX_AUTHORITY)]
        if kind == "encoded":
            rest = _decoded(rest)
        beyond = "" if is_cut else _beyond(text, end)
        hosts = frozenset(_hosts(rest, beyond, is_cut=is_cut))
        if (rest.strip("/\\") or scheme == "file") and _names_host(
            kind, scheme, (sign[0], rest), hosts
        ):
            cut = rest_at + len(text[rest_at:end].rstrip(_TRAILING))
            yield _Found(sign.start() - len(scheme), max(cut, sign.end()), scheme, hosts)


def _scheme_before(text: str, end: int) -> str:
    before = text[max(0, end - MAX_SCHEME) : end]
    return before[len(before.rstrip(_SCHEME_LETTERS)) :].lstrip(_NO_FIRST_LETTERS).lower()


def _names_host(kind: str, scheme: str, written: tuple[str, str], hosts: frozenset[str]) -> bool:
    """Whether a sign of a URL was one, rather than a comment, a path or a name of some program's own.

    ``written`` is the sign itself and what follows it.
    """
    sign, rest = written
    if kind == "scheme" and scheme.rpartition("+")[2] in _NETWORK_SCHEMES:
        return True
    if kind == "encoded" and scheme in _NETWORK_SCHEMES:
        return True
    if kind == "few" and (scheme not in _WEB or sign == ":"):
        return scheme in _WEB and "." in rest and any(map(_looks_like_host, hosts))
    if kind == "few":
        return True
    return any(_looks_like_host(host) for host in hosts)


def _looks_like_host(host: str) -> bool:
    if host.startswith("[") or host == "localhost":
        return True
    labels = host.split(".")
    if len(labels) == 4 and all(label.isdecimal() for label in labels):
        return True
    return len(labels) > 1 and _TOP.fullmatch(labels[-1]) is not None


def _beyond(text: str, end: int) -> str:
    """What follows line ends that browsers leave out of a URL, if it seems to go on there."""
    late = _LATE.match(text, end)
    if late is None:
        return ""
    stop = _STOP.search(text, late.end(), late.end() + MAX_AUTHORITY)
    more = text[late.end() : late.end() + MAX_AUTHORITY if stop is None else stop.start()]
    return more if "." in more else ""


def _hosts(rest: str, beyond: str, *, is_cut: bool) -> Iterator[str]:
    """Each host that what follows ``scheme://`` may name, normalized.

    Where it is cut before a path, what follows may name yet another.
    """
    rest = rest.lstrip("/\\")
    strict = _AUTHORITY_END.split(rest, maxsplit=1)[0]
    readings = [strict, strict.partition("\\")[0]]
    if is_cut and len(strict) == len(rest):
        yield ""
    if beyond and len(strict) == len(rest):
        readings.append(_AUTHORITY_END.split(rest + beyond, maxsplit=1)[0])
    for reading in dict.fromkeys(readings):
        yield from _hosts_in(reading)


def _hosts_in(authority: str) -> Iterator[str]:
    """The host behind user name and password, without its port."""
    authority = _decoded(authority).rstrip(_TRAILING.replace("]", ""))
    # A second '@' is taken for part of the password by some, for the end of the host by others.
    first, *others = authority.split("@")
    for place in others or [first]:
        if place.startswith("["):
            host = place.partition("]")[0] + "]"
        else:
            host = place.partition(":")[0].rstrip("]")
        yield _normal(host) if len(host) <= MAX_HOST else ""
        if _DEVIATING.search(host):
            yield _punycode(host)


@lru_cache(maxsize=1024)
def _normal(host: str) -> str:
    """A host in the one form in which hosts are compared; empty for what no host can be."""
    host = host.strip().lower()
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host.strip("[]").partition("%")[0])
        except ValueError:
            return ""
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else f"[{address.compressed}]"
    try:
        plain = host.encode("idna").decode().lower().rstrip(".")
    except UnicodeError:
        return ""
    if _NUMERIC.fullmatch(plain.rpartition(".")[2]):
        try:
            return socket.inet_ntoa(socket.inet_aton(plain))
        except OSError:
            return ""
    return plain if _NAME.fullmatch(plain) else ""


def _punycode(host: str) -> str:
    """As IDNA 2008 reads the few letters that IDNA 2003 takes for others."""
    labels = (
        label if label.isascii() else "xn--" + label.encode("punycode").decode()
        for label in host.lower().split(".")
    )
    return ".".join(labels)


def _decoded(text: str) -> str:
    """Without percent-encoding, however often it was applied (up to three times)."""
    for _ in range(3):
        plain = unquote(text)
        if plain == text:
            break
        text = plain
    return text
