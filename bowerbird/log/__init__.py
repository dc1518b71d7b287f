"""Event log: ingest, dead letters, order, write-ahead log."""

from bowerbird.log.dead_letters import DeadLetter, count_dead_letters, read_dead_letters
from bowerbird.log.live.write_ahead import WriteAheadLog, open_wal
from bowerbird.log.reader import LogBatch, LogReader
from bowerbird.log.sources.ingest import ingest, ingest_table
from bowerbird.log.sources.report import IngestReport

__all__ = [
    "DeadLetter",
    "IngestReport",
    "LogBatch",
    "LogReader",
    "WriteAheadLog",
    "count_dead_letters",
    "ingest",
    "ingest_table",
    "open_wal",
    "read_dead_letters",
]
