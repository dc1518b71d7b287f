"""Event log: ingest, dead letters, order, write-ahead log."""

from bowerbird.log.dead_letters import DeadLetter, count_dead_letters, read_dead_letters
from bowerbird.log.ingest import ingest, ingest_table
from bowerbird.log.reader import LogBatch, LogReader
from bowerbird.log.report import IngestReport
from bowerbird.log.wal import WriteAheadLog, open_wal

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
