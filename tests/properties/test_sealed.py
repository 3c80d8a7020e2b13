"""What is sealed is opened by the same installation, for the same purpose, unaltered, in time."""

import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import DataDirectoryError
from hub.vault.key_ring import FILE_NAME, KeyRing, RingKey, load_or_create, replace
from hub.vault.sealed import Sealer

WHEN = datetime(2026, 11, 21, tzinfo=UTC)
KEY = RingKey(id="0123abcd", created_at=WHEN, secret=bytes(range(32)))
OTHER = RingKey(id="4567cdef", created_at=WHEN, secret=bytes(range(1, 33)))

contents = st.binary(max_size=200)
words = st.text(max_size=20)


def sealer(*keys: RingKey, at: float = 1000.0) -> Sealer:
    return Sealer(keys or (KEY,), lambda: at)


@given(contents, words, contents)
def test_what_was_sealed_is_opened_again(content: bytes, purpose: str, associated: bytes) -> None:
    token = sealer().seal(content, purpose=purpose, associated=associated)
    assert re.fullmatch("[A-Za-z0-9_-]+", token)
    assert sealer().unseal(token, purpose=purpose, associated=associated) == content


@given(contents, st.data())
def test_any_other_token_opens_nothing(content: bytes, data: st.DataObject) -> None:
    token = sealer().seal(content, purpose="session", lifetime_s=10)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters().filter(lambda letter: letter != token[at]))
    assert sealer().unseal(token[:at] + letter + token[at + 1 :], purpose="session") is None
    assert sealer().unseal(token[:at], purpose="session") is None
    assert sealer().unseal(token + letter, purpose="session") is None


@given(st.text())
def test_what_was_never_sealed_opens_nothing(token: str) -> None:
    assert sealer().unseal(token, purpose="session") is None


@given(words, words, contents, contents)
def test_purpose_and_associated_data_bind(
    purpose: str, other_purpose: str, associated: bytes, other_associated: bytes
) -> None:
    token = sealer().seal(b"content", purpose=purpose, associated=associated)
    same = (purpose, associated) == (other_purpose, other_associated)
    opened = sealer().unseal(token, purpose=other_purpose, associated=other_associated)
    assert (opened is not None) == same


@given(st.floats(0, 1e6), st.floats(0, 2e6))
def test_a_token_opens_until_its_time_is_up(lifetime_s: float, later_s: float) -> None:
    token = sealer(at=0).seal(b"content", purpose="cursor", lifetime_s=lifetime_s)
    opened = sealer(at=later_s).unseal(token, purpose="cursor")
    assert (opened is not None) == (later_s < max(1, int(lifetime_s)))


def test_equal_contents_give_different_tokens() -> None:
    tokens = {sealer().seal(b"content", purpose="cursor") for _ in range(100)}
    assert len(tokens) == 100


def test_older_keys_open_and_new_ones_seal() -> None:
    old = sealer(KEY).seal(b"content", purpose="cursor")
    both = sealer(OTHER, KEY)
    assert both.unseal(old, purpose="cursor") == b"content"
    new = both.seal(b"content", purpose="cursor")
    assert sealer(KEY).unseal(new, purpose="cursor") is None
    assert sealer(OTHER).unseal(new, purpose="cursor") == b"content"


def test_the_ring_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    ring = load_or_create(tmp_path, WHEN)
    assert load_or_create(tmp_path, WHEN) == ring
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_rotated_ring_keeps_what_it_made(tmp_path: Path) -> None:
    ring = load_or_create(tmp_path, WHEN)
    token = Sealer(ring.sealing, lambda: 0.0).seal(b"content", purpose="cursor")
    replace(tmp_path, ring.rotated("sealing", WHEN).rotated("signing", WHEN))
    rotated = load_or_create(tmp_path, WHEN)
    assert Sealer(rotated.sealing, lambda: 0.0).unseal(token, purpose="cursor") == b"content"
    assert rotated.signer().public_key != ring.signer().public_key
    assert ring.public_keys()[0] in rotated.public_keys()
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_ring_that_others_can_read_is_refused_with_the_fix(tmp_path: Path) -> None:
    load_or_create(tmp_path, WHEN)
    (tmp_path / FILE_NAME).chmod(0o644)
    with pytest.raises(DataDirectoryError, match="chmod 600"):
        load_or_create(tmp_path, WHEN)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"sealing":[],"signing":[],"digest":[]}'])
def test_a_damaged_ring_is_refused(tmp_path: Path, content: bytes) -> None:
    load_or_create(tmp_path, WHEN)
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(DataDirectoryError, match="damaged"):
        load_or_create(tmp_path, WHEN)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    ring: KeyRing = load_or_create(tmp_path, WHEN)
    for key in (*ring.sealing, *ring.signing, *ring.digest):
        assert repr(key.secret) not in repr(ring)


def test_tenants_have_digest_keys_of_their_own(tmp_path: Path) -> None:
    ring = load_or_create(tmp_path, WHEN)
    assert ring.digest_key("acme") == load_or_create(tmp_path, WHEN).digest_key("acme")
    assert len({ring.digest_key(tenant) for tenant in ("acme", "other", "")}) == 3
