import numpy as np
import pytest

from bowerbird.embedding.table import Table
from bowerbird.embedding.table_export import export_parquet, export_safetensors, import_parquet, import_safetensors
from bowerbird.errors import CorruptionError
from bowerbird.kernels.table_config import TableConfig


@pytest.mark.parametrize(
    ("write", "read"), [(export_parquet, import_parquet), (export_safetensors, import_safetensors)]
)
def test_vectors_come_back(tmp_path, write, read):
    table, other = Table(TableConfig(dimension=6)), Table(TableConfig(dimension=6, seed=1))
    keys = np.random.default_rng(0).integers(1, 2**64, 500, dtype=np.uint64)
    table.admit(keys)
    write(table, tmp_path / "file")
    assert read(other, tmp_path / "file") == 500
    np.testing.assert_array_equal(other.take(other.find(keys)), table.take(table.find(keys)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:300])
    with pytest.raises(CorruptionError):
        read(other, tmp_path / "file")
