"""What an ingest did, for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass
class TypeCount:
    """Records of one type: ``new`` ones stored, and ``duplicates`` whose id was there already."""

    new: int = 0
    duplicates: int = 0


@dataclass
class IngestReport:
    """Counts by record type, rejected rows by reason, raw rows read and seconds.

    ``late`` counts the accepted events by type that came later than declared (whether new or not), and
    ``forgotten`` the records that were left out because `bowerbird forget` had erased their users. ``live`` is true
    where the records were appended to the write-ahead log.
    """

    types: dict[str, TypeCount] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    seconds: float = 0.0
    live: bool = False
    forgotten: int = 0

    def of_type(self, name: str) -> TypeCount:
        """Return a type's counts, made on first use."""
        return self.types.setdefault(name, TypeCount())

    def count(self, name: str, read: pa.Table, new: pa.Table, refused: pa.Table) -> None:
        """Add records of a type that were read, those of them that are new, and those that were refused."""
        self.of_type(name).new += new.num_rows
        self.of_type(name).duplicates += read.num_rows - new.num_rows - refused.num_rows

    @property
    def new(self) -> int:
        """Return how many records were stored."""
        return sum(count.new for count in self.types.values())

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rate = f", {self.rows / self.seconds:,.0f} rows/s" if self.seconds > 0 else ""
        lines = [f"{self.rows:,} rows read in {self.seconds:.1f} s{rate}"]
        width = max((len(name) for name in self.types), default=0)
        for name, count in sorted(self.types.items()):
            lines.append(f"  {name:<{width}}  {count.new:>12,} new  {count.duplicates:>12,} already there")
        lines.extend(f"  late: {name}  {count:,} past their lateness, applied" for name, count in self.late.items())
        if self.forgotten:
            lines.append(f"  left out: {self.forgotten:,} records of users who were forgotten")
        if self.live:
            lines.append("  The platform is live: new records follow what it has already seen.")
        lines.extend(f"  rejected: {reason}  {count:,}" for reason, count in self.rejected.most_common())
        if self.rejected:
            lines.append("  `bowerbird dead-letters` lists the rejected rows with file and line.")
        return lines
