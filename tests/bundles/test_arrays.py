import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from bowerbird.bundles.arrays import pack_arrays, read_arrays, unpack_arrays
from bowerbird.errors import CorruptionError

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint64, np.uint8, np.bool_, np.float16])
ARRAYS = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(
        lambda name: not name.startswith("__")
    ),
    DTYPES.flatmap(lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=5))),
    max_size=5,
)


@given(ARRAYS)
def test_round_trip(arrays):
    again = unpack_arrays(pack_arrays(arrays))
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert again[name].shape == array.shape
        assert again[name].tobytes() == array.tobytes()


def test_a_file_is_mapped_aligned_and_private(tmp_path):
    arrays = {"a": np.arange(3, dtype=np.int8), "b": np.arange(10, dtype=np.float32)}
    file = tmp_path / "arrays"
    file.write_bytes(pack_arrays(arrays))
    read = read_arrays(file)
    assert read["b"].ctypes.data % 64 == 0
    read["b"][0] = 99
    assert read_arrays(file)["b"][0] == 0


@pytest.mark.parametrize("cut", [1, 5, 40, 120])
def test_a_short_file_is_corrupt(tmp_path, cut):
    file = tmp_path / "arrays"
    file.write_bytes(pack_arrays({"a": np.arange(30)})[:cut])
    with pytest.raises(CorruptionError, match="arrays"):
        read_arrays(file)


def test_objects_are_refused():
    with pytest.raises(TypeError, match="'a' has dtype object"):
        pack_arrays({"a": np.array([{}], dtype=object)})
