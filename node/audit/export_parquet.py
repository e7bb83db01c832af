"""The same table as Apache Parquet: typed columns, row groups of bounded size.

Needs pyarrow, which is in the extra `export` alone.
"""

from __future__ import annotations

from io import RawIOBase
from typing import IO, Any

from node.audit.export import Balances, CannotExport, Names, Point
from node.audit.export_table import OPENING, openings
from node.audit.movements import Account, Movement
from node.chain.uetr import uetr_text

ROW_GROUP = 32_768
"""Rows in memory at a time, and in one row group of the file."""
SCALE = 8
"""Decimal places of the column `amount`: no asset has more."""
PRECISION = 27
"""Digits of an amount of 2⁶³ − 1 units with so many decimal places."""
_WORD = 16
"""Bytes of a decimal128."""


def require_pyarrow() -> None:
    """Raise CannotExport unless pyarrow is there, before anything is replayed for nothing."""
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415
    except ImportError as error:
        raise CannotExport(
            "Parquet files are written with pyarrow, which is not installed here: "
            "pip install 'nostro[export]', or take --format csv"
        ) from error


def schema() -> Any:
    """The columns; `amount` is `minor_units` with the asset's `exponent`."""
    import pyarrow as pa  # noqa: PLC0415

    text, word = pa.string(), pa.dictionary(pa.int32(), pa.string())
    columns = [
        ("height", pa.int64(), False),
        ("index", pa.int32(), True),
        ("line", pa.int32(), True),
        ("time", pa.timestamp("ms", tz="UTC"), False),
        ("kind", word, False),
        ("uetr", text, True),
        ("related", text, True),
        ("debtor", word, True),
        ("debtor_name", word, True),
        ("debtor_account", word, False),
        ("creditor", word, True),
        ("creditor_name", word, True),
        ("creditor_account", word, False),
        ("asset", word, False),
        ("exponent", pa.int8(), False),
        ("amount", pa.decimal128(PRECISION, SCALE), False),
        ("minor_units", pa.int64(), False),
        ("cycle", pa.int64(), True),
        ("proof", text, True),
        ("outcome", pa.binary(32), True),
    ]
    return pa.schema([pa.field(name, kind, nullable) for name, kind, nullable in columns])


class _Sink(RawIOBase):
    """Passes on what is written until it is told that the file is gone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.is_open = True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data) if self.is_open else len(data)


class ParquetWriter:
    """Writes to a binary file. May raise OSError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._sink = _Sink(file)
        self._writer: Any = None
        self._schema = schema()
        self._rows: list[tuple[Any, ...]] = []

    def begin(self, chain_id: bytes, at: Point, balances: Balances, names: Names) -> None:
        """The file's beginning, and a row of kind `opening` for each balance."""
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._names = names
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._about = {
            "nostro.chain_id": chain_id.hex(),
            "nostro.after_height": str(at.height),
            "nostro.after_block": at.digest.hex(),
        }
        for debtor, creditor, asset, amount in openings(at, balances):
            self._row(
                (at.height, None, None, at.time, OPENING, None, None),
                (debtor, creditor),
                asset,
                amount,
                (None, None, None),
            )

    def movement(self, time: int, height: int, movement: Movement) -> None:
        """A row."""
        uetr, related = movement.uetr, movement.related
        self._row(
            (
                height,
                movement.position,
                movement.line,
                time,
                movement.kind,
                None if uetr is None else uetr_text(uetr),
                None if related is None else uetr_text(related),
            ),
            (movement.debtor, movement.creditor),
            movement.asset,
            movement.amount,
            (movement.cycle, f"{height}:{movement.position}", movement.outcome),
        )

    def checkpoint(self, at: Point, balances: Balances) -> None:
        """Nothing: a table has movements alone."""

    def day(self, at: Point, balances: Balances) -> None:
        """Nothing."""

    def end(self, at: Point) -> None:
        """The rest, and what the file is of."""
        self._flush()
        about = {**self._about, "nostro.height": str(at.height), "nostro.block": at.digest.hex()}
        self._writer.add_key_value_metadata(about)
        self._writer.close()

    def abandon(self) -> None:
        """Whatever pyarrow still wants to write, now or when it is collected, goes nowhere."""
        self._sink.is_open = False
        if self._writer is not None:
            self._writer.close()

    def _row(
        self,
        before: tuple[Any, ...],
        sides: tuple[Account, Account],
        asset: str,
        amount: int,
        after: tuple[Any, ...],
    ) -> None:
        exponent = self._names.exponent(asset)
        debtor, creditor = sides
        self._rows.append(
            (
                *before,
                debtor.holder,
                self._names.name(debtor) or None,
                debtor.kind,
                creditor.holder,
                self._names.name(creditor) or None,
                creditor.kind,
                asset,
                exponent,
                amount * 10 ** (SCALE - exponent),
                amount,
                *after,
            )
        )
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        if not self._rows:
            return
        columns = [
            _column(field.type, values)
            for field, values in zip(self._schema, zip(*self._rows, strict=True), strict=True)
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows.clear()


def _column(kind: Any, values: tuple[Any, ...]) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_decimal(kind):
        # Made from its bytes: Python's decimals, one by one, take longer than all other columns.
        raw = b"".join(each.to_bytes(_WORD, "little", signed=True) for each in values)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(raw)])
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)
