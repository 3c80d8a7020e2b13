"""The tables. Times are RFC 3339 text in UTC; documents are JSON."""

import hashlib
from typing import Final, cast

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Table, Text
from sqlmodel import Field, SQLModel

MAX_KEY_LENGTH: Final = 200
"""Longer names are indexed by digest: PostgreSQL refuses index entries beyond 2.7 kB."""


def index_key(name: str) -> str:
    """What a name of any length and content is indexed by."""
    if len(name) <= MAX_KEY_LENGTH and name.isascii() and name.isprintable():
        return name
    return f"sha256:{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()}"


class ConfiguredObject(SQLModel, table=True):
    """One object of the desired state."""

    __tablename__ = "configured_object"

    tenant: str = Field(primary_key=True)
    noun: str = Field(primary_key=True)
    name_key: str = Field(primary_key=True)
    """:func:`index_key` of the object's name."""
    source: str
    document: str = Field(sa_column=Column(Text, nullable=False))
    origin: str = Field(sa_column=Column(Text, nullable=False))
    """The file that owns it; empty where the API does."""
    applied: str
    """SHA-256 of the document as the file was applied; empty where the API owns it."""
    changed_at: str


class ApiKey(SQLModel, table=True):
    """A key, known by its digest."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    tenant: str = Field(index=True)
    principal: str
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    virtual_servers: str | None = Field(default=None, sa_column=Column(Text))
    """JSON array; NULL where the key is not limited."""
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    bootstrap: bool
    cidrs: str | None = Field(default=None, sa_column=Column(Text))
    """JSON array; NULL where the key may be used from anywhere."""
    used_at: str | None = None
    used_from: str | None = None


class StoredListing(SQLModel, table=True):
    """The last known good listing of an upstream."""

    __tablename__ = "upstream_listing"

    tenant: str = Field(primary_key=True)
    upstream: str = Field(primary_key=True)
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    listed_at: str


class ExposedName(SQLModel, table=True):
    """One row of the name ledger; rows are added and never changed."""

    __tablename__ = "exposed_name"

    tenant: str = Field(primary_key=True)
    virtual_server: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name_key: str = Field(primary_key=True)
    """:func:`index_key` of the exposed name."""
    name: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    upstream: str
    original: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Names are bytes: upstreams choose them, and PostgreSQL's text takes no NUL."""


class EpochRow(SQLModel, table=True):
    """One row that every change counts up."""

    __tablename__ = "epoch"

    id: int = Field(primary_key=True)
    configuration: int = Field(sa_column=Column(BigInteger, nullable=False))
    keys: int = Field(sa_column=Column(BigInteger, nullable=False))
    listings: int = Field(sa_column=Column(BigInteger, nullable=False))


class StoredLine(SQLModel, table=True):
    """One line of the audit record, exactly as it was written."""

    __tablename__ = "audit_line"

    writer: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    kind: str
    text: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class LedgerUse(SQLModel, table=True):
    """Uses of a capability in one minute, or refusals, that are alike in everything but their calls."""

    __tablename__ = "ledger_use"
    __table_args__ = (Index("ix_ledger_use_tenant_at_us", "tenant", "at_us"),)

    writer: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    tenant: str
    at_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    """Microseconds since 1970: ranges are asked for, and text would be compared by locale."""
    day: str
    """Of the calendar in UTC, ``2026-11-21``."""
    principal: str
    key: str
    groups: str = Field(sa_column=Column("group_names", Text, nullable=False))
    """JSON array, sorted; equal sets are equal text."""
    virtual_server: str
    upstream: str
    kind: str
    tool: str = Field(sa_column=Column(Text, nullable=False))
    """Original name of the capability, without NUL."""
    outcome: str
    calls: int = Field(sa_column=Column(BigInteger, nullable=False))
    cost: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str


class LedgerCharge(SQLModel, table=True):
    """What was counted on a quota or budget in one period of the calendar."""

    __tablename__ = "ledger_charge"

    period: str = Field(primary_key=True)
    starts_s: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    """Seconds since 1970, as ``ends_s``."""
    counter_key: str = Field(primary_key=True)
    """:func:`index_key` of ``counter``."""
    currency: str = Field(primary_key=True)
    ends_s: int = Field(sa_column=Column(BigInteger, nullable=False))
    counter: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Key of the count; bytes, as it may hold a name that an upstream chose."""
    calls: int = Field(sa_column=Column(BigInteger, nullable=False))
    micro: int = Field(sa_column=Column(BigInteger, nullable=False))


class LedgerCursor(SQLModel, table=True):
    """How far a chain of the record has been taken into the ledger."""

    __tablename__ = "ledger_cursor"

    writer: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))


class LedgerAlert(SQLModel, table=True):
    """A share of a budget that was announced; who makes the row announces it."""

    __tablename__ = "ledger_alert"

    period: str = Field(primary_key=True)
    starts_s: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    counter_key: str = Field(primary_key=True)
    share: str = Field(primary_key=True)
    ends_s: int = Field(sa_column=Column(BigInteger, nullable=False))
    announced_at: str


METADATA: Final[MetaData] = SQLModel.metadata


def table_of(model: type[SQLModel]) -> Table:
    """The table that a model declares."""
    return cast("Table", model.__dict__["__table__"])
