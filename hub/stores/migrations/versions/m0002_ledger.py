"""The ledger: uses, charges, how far the record was taken in, what was announced; keys' last use."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, which the ledger fills from the record; and what keys are limited to."""
    _create_ledger()
    _widen_keys()


def _widen_keys() -> None:
    op.add_column("api_key", sa.Column("cidrs", sa.Text(), nullable=True))
    op.add_column("api_key", sa.Column("used_at", sa.String(), nullable=True))
    op.add_column("api_key", sa.Column("used_from", sa.String(), nullable=True))


def _create_ledger() -> None:
    op.create_table(
        "ledger_use",
        sa.Column("writer", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("group_names", sa.Text(), nullable=False),
        sa.Column("virtual_server", sa.String(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
    )
    op.create_index("ix_ledger_use_tenant_at_us", "ledger_use", ["tenant", "at_us"])
    op.create_table(
        "ledger_charge",
        sa.Column("period", sa.String(), primary_key=True),
        sa.Column("starts_s", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("counter_key", sa.String(), primary_key=True),
        sa.Column("currency", sa.String(), primary_key=True),
        sa.Column("ends_s", sa.BigInteger(), nullable=False),
        sa.Column("counter", sa.LargeBinary(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("micro", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "ledger_cursor",
        sa.Column("writer", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "ledger_alert",
        sa.Column("period", sa.String(), primary_key=True),
        sa.Column("starts_s", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("counter_key", sa.String(), primary_key=True),
        sa.Column("share", sa.String(), primary_key=True),
        sa.Column("ends_s", sa.BigInteger(), nullable=False),
        sa.Column("announced_at", sa.String(), nullable=False),
    )
