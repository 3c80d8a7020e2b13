"""The audit record's lines in the database: what level ``stored`` waits for."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from hub.domain.record import ChainLine
from hub.errors import RecordUnavailable, StoreUnavailableError
from hub.stores.database import Database
from hub.stores.tables import StoredLine, table_of

_lines = table_of(StoredLine)


class ChainLineStore:
    """Lines of all chains, exactly as they were written; added, never changed, forgotten with age."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, lines: Sequence[ChainLine]) -> None:
        """Keep lines, in order; those that are there already are left as they are.

        Raises RecordUnavailable; the same lines may be given again then.
        """
        try:
            await self._keep(lines)
        except StoreUnavailableError as error:
            raise RecordUnavailable(str(error)) from error

    async def forget(self, writer: str, first: int, last: int) -> None:
        """Remove lines of one chain from a number to another one; seals stay.

        Raises StoreUnavailableError.
        """
        statement = delete(_lines).where(
            _lines.c.writer == writer,
            _lines.c.sequence.between(first, last),
            _lines.c.kind != "seal",
        )
        async with self._database.write() as connection:
            await connection.execute(statement)

    async def writers(self) -> tuple[str, ...]:
        """Names of all chains, sorted."""
        statement = select(_lines.c.writer).distinct().order_by(_lines.c.writer)
        async with self._database.read() as connection:
            return tuple((await connection.execute(statement)).scalars())

    async def read(self, writer: str, *, after: int = -1, limit: int = 1_000) -> list[ChainLine]:
        """Lines of one chain behind the sequence number ``after``, in order."""
        statement = (
            select(_lines.c.writer, _lines.c.sequence, _lines.c.kind, _lines.c.text)
            .where(_lines.c.writer == writer, _lines.c.sequence > after)
            .order_by(_lines.c.sequence)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        return [ChainLine(row[0], row[1], row[2], bytes(row[3])) for row in rows]

    async def _keep(self, lines: Sequence[ChainLine]) -> None:
        async with self._database.write() as connection:
            for writer in {line.writer for line in lines}:
                given = [line for line in lines if line.writer == writer]
                there = select(_lines.c.sequence).where(
                    _lines.c.writer == writer,
                    _lines.c.sequence.between(given[0].sequence, given[-1].sequence),
                )
                known = set((await connection.execute(there)).scalars())
                rows = [
                    {
                        "writer": writer,
                        "sequence": line.sequence,
                        "kind": line.kind,
                        "text": line.text,
                    }
                    for line in given
                    if line.sequence not in known
                ]
                if rows:
                    await connection.execute(insert(_lines), rows)
