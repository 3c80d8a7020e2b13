"""Configured objects, keys, listings, the name ledger, the record's copy, epochs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the one row of ``epoch``."""
    op.create_table(
        "configured_object",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("noun", sa.String(), primary_key=True),
        sa.Column("name_key", sa.String(), primary_key=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("applied", sa.String(), nullable=False),
        sa.Column("changed_at", sa.String(), nullable=False),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False, index=True),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("virtual_servers", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=True),
        sa.Column("revoked_at", sa.String(), nullable=True),
        sa.Column("bootstrap", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "upstream_listing",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("upstream", sa.String(), primary_key=True),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("listed_at", sa.String(), nullable=False),
    )
    op.create_table(
        "exposed_name",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("virtual_server", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("name_key", sa.String(), primary_key=True),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("original", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_line",
        sa.Column("writer", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
    )
    epoch = op.create_table(
        "epoch",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("configuration", sa.BigInteger(), nullable=False),
        sa.Column("keys", sa.BigInteger(), nullable=False),
        sa.Column("listings", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(epoch, [{"id": 1, "configuration": 0, "keys": 0, "listings": 0}])
