"""Puts KuaiRand's files into ``raw/`` as the sources of ``project.py`` read them.

    python prepare.py --data FOLDER

FOLDER holds ``log_20220425_20220506.parquet``, ``users.csv.gz``, ``videos.csv.gz`` and
``history_before_20220425.parquet``. KuaiRand (Gao et al., CIKM 2022) is published under CC BY-SA 4.0; see
README.md here for the official download and how its files become these.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import duckdb

LOG = "log_20220425_20220506.parquet"
HISTORY = "history_before_20220425.parquet"
USERS = "users.csv.gz"
VIDEOS = "videos.csv.gz"

_LOG_QUERY = """
COPY (
    SELECT *, ln(1 + play_time_ms) AS log_play,
           CASE WHEN duration_ms > 0 THEN least(play_time_ms / duration_ms, 3.0) END AS play_ratio,
           CASE WHEN long_view = 1 THEN 'long' WHEN is_click = 1 THEN 'click'
                WHEN play_time_ms < 2000 THEN 'skip' ELSE 'seen' END AS outcome
    FROM read_parquet(?)
) TO '{target}' (FORMAT parquet)
"""

_HISTORY_QUERY = """
COPY (
    WITH watched AS (
        SELECT user_id, last_time_ms, unnest(watch_seq) AS video_id, like_seq, long_watch_seq,
               generate_subscripts(watch_seq, 1) AS place
        FROM read_parquet(?)
    )
    SELECT user_id || '-' || lpad(place::VARCHAR, 4, '0') AS watch_id, user_id, video_id,
           last_time_ms AS time_ms, NULL::INTEGER AS tab, list_contains(long_watch_seq, video_id) AS long_watch,
           list_contains(like_seq, video_id) AS liked,
           CASE WHEN liked THEN 'history_like' WHEN long_watch THEN 'history_long' ELSE 'history' END AS outcome
    FROM watched
) TO '{target}' (FORMAT parquet)
"""

_USERS_QUERY = "COPY (SELECT * FROM read_csv(?, all_varchar = true)) TO '{target}' (HEADER)"

_VIDEOS_QUERY = """
COPY (
    SELECT *, epoch(upload_dt::DATE)::DOUBLE AS uploaded,
           round(2 * log2(1 + coalesce(video_duration::DOUBLE, 0) / 1000))::INTEGER AS duration_step,
           CASE WHEN server_width::DOUBLE > server_height::DOUBLE THEN 'wide'
                WHEN server_width::DOUBLE * 16 <= server_height::DOUBLE * 9 + 1 THEN 'tall' ELSE 'other' END AS aspect
    FROM read_csv(?, all_varchar = true)
) TO '{target}' (HEADER)
"""


def prepare(data: Path, raw: Path) -> None:
    """Convert the four files; the history becomes one row per watched video."""
    raw.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    jobs = [
        (_LOG_QUERY, LOG, "log.parquet"),
        (_HISTORY_QUERY, HISTORY, "history.parquet"),
        (_USERS_QUERY, USERS, "users.csv"),
        (_VIDEOS_QUERY, VIDEOS, "videos.csv"),
    ]
    for query, source, target in jobs:
        connection.execute(query.format(target=raw / target), [str(data / source)])
        print(f"{raw / target}")


def main() -> None:
    """Check that the files are there, then convert them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four KuaiRand files")
    parser.add_argument("--project", type=Path, default=Path(__file__).parent, help="where raw/ is made")
    arguments = parser.parse_args()
    missing = [name for name in (LOG, HISTORY, USERS, VIDEOS) if not (arguments.data / name).is_file()]
    if missing:
        sys.exit(f"{arguments.data} lacks {', '.join(missing)}. README.md says where KuaiRand is to be had.")
    prepare(arguments.data, arguments.project / "raw")


if __name__ == "__main__":
    main()
