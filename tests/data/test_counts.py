from __future__ import annotations

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

import atacvi.data.counts as counts_module
from atacvi.data import check_counts, check_empty, count_presence, to_csr_matrix

CELLS = [f"cell{i}" for i in range(6)]
PEAKS = [f"chr1:{i}0-{i}5" for i in range(1, 9)]
FORMATS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "dense": lambda x: x,
}


def check(matrix, **options):
    check_counts(matrix, 'mdata["atac"].X', obs_names=CELLS, var_names=PEAKS, **options)


@pytest.fixture
def counts(rng):
    return rng.poisson(1.0, (6, 8)).astype(np.float32)


@pytest.fixture(params=[1, 7, 2**22])
def block_values(request, monkeypatch):
    """Blocks of one row up to all rows."""
    monkeypatch.setattr(counts_module, "_BLOCK_VALUES", request.param)


@pytest.fixture(params=["csr", "csc", "dense", "backed_sparse", "backed_dense"])
def store(request, tmp_path):
    """Turn a dense array into one of the kinds of matrices that are allowed."""
    if request.param in FORMATS:
        yield FORMATS[request.param]
        return
    opened = []

    def write(x):
        path = tmp_path / "backed.h5ad"
        stored = sp.csr_matrix(x) if request.param == "backed_sparse" else x
        anndata.AnnData(stored).write_h5ad(path)
        opened.append(anndata.read_h5ad(path, backed="r"))
        return opened[-1].X

    yield write
    for adata in opened:
        adata.file.close()


@pytest.mark.usefixtures("block_values")
def test_counts_pass(counts, store):
    check(store(counts))


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64, np.float64, bool])
def test_integer_like_values_of_any_type_pass(counts, dtype):
    check(counts.astype(dtype))
    check(sp.csr_matrix(counts.astype(dtype)))


@pytest.mark.usefixtures("block_values")
@pytest.mark.parametrize(
    ("value", "kind", "fix"),
    [
        (-1.0, "negative", "layer='counts'"),
        (-1.5, "negative", "layer='counts'"),
        (0.5, "fractional", "layer='counts'"),
        (np.nan, "NaN or infinite", "drop their cells or features"),
        (np.inf, "NaN or infinite", "drop their cells or features"),
    ],
)
def test_one_bad_value_is_found_and_named(counts, store, value, kind, fix):
    counts[4, 5] = value
    with pytest.raises(ValueError, match=f"holds 1 {kind} value: {value}") as error:
        check(store(counts))
    assert f"(cell 'cell4', feature '{PEAKS[5]}')" in str(error.value)
    assert fix in str(error.value)
    assert 'mdata["atac"].X' in str(error.value)


@pytest.mark.usefixtures("block_values")
def test_many_bad_values_are_counted_and_five_named(counts):
    counts[:] = 0.5
    with pytest.raises(ValueError, match="48 fractional values") as error:
        check(counts)
    assert str(error.value).count("(cell ") == 5


def test_fractions_pass_where_they_are_wanted(counts):
    check(counts / 2, integer=False)
    with pytest.raises(ValueError, match="negative"):
        check(counts / 2 - 10, integer=False)


def test_negative_values_pass_where_they_are_wanted(counts):
    check(counts - 10.5, integer=False, allow_negative=True)
    with pytest.raises(ValueError, match="NaN or infinite"):
        check(counts - np.inf, integer=False, allow_negative=True)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.coo_matrix, sp.lil_matrix])
def test_types_that_cannot_be_loaded_are_refused_with_the_conversion(counts, kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__}.*atacvi\.data\.to_csr_matrix"):
        check(kind(counts))
    fixed = to_csr_matrix(kind(counts))
    check(fixed)
    assert (fixed.toarray() == counts).all()


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (None, "None"),
        ([[1, 2]], "is a list"),
        (np.array([["a"]]), "dtype <U1"),
        (np.array([[1j]]), "dtype complex128"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(matrix, match):
    with pytest.raises(TypeError, match=match):
        check(matrix)


def test_shape_must_fit_the_names(counts):
    with pytest.raises(ValueError, match=r"shape \(5, 8\), not \(6, 8\)"):
        check(counts[:5])


def test_entries_stored_twice_are_refused():
    # toarray() shows 2; arithmetic on the stored values would see 1 and 1
    matrix = sp.csr_matrix(([1, 1], [3, 3], [0, 2, 2, 2, 2, 2, 2]), shape=(6, 8))
    with pytest.raises(ValueError, match="1 entries twice"):
        check(matrix)
    fixed = to_csr_matrix(matrix)
    check(fixed)
    assert fixed[0, 3] == 2
    assert matrix.nnz == 2


def test_unsorted_indices_pass(counts):
    matrix = sp.csr_matrix(([1, 1], [5, 3], [0, 2, 2, 2, 2, 2, 2]), shape=(6, 8))
    check(matrix)


@pytest.mark.usefixtures("block_values")
def test_presence(counts, store):
    counts[2] = 0
    counts[:, 3] = 0
    presence = count_presence(store(counts))
    assert presence.cells.tolist() == (counts > 0).any(axis=1).tolist()
    assert presence.features.tolist() == (counts > 0).any(axis=0).tolist()


def test_explicit_zeros_are_no_counts(counts):
    matrix = sp.csr_matrix(np.ones((6, 8)))
    matrix.data[:8] = 0
    assert count_presence(matrix).cells.tolist() == [False] + [True] * 5


def test_empty_cells_and_features_are_named(counts):
    names = {"obs_names": CELLS, "var_names": PEAKS}
    counts[:] += 1
    assert check_empty(counts, "X", **names).cells.all()
    counts[2] = 0
    with pytest.raises(ValueError, match=r"1 of 6 cells \('cell2'\) in X .*allow_missing=True"):
        check_empty(counts, "X", **names)
    counts[:, 1] = 0
    with pytest.raises(ValueError, match=r"1 of 8 features .*pp\.filter_features"):
        check_empty(counts, "X", allow_empty_cells=True, **names)
    presence = check_empty(counts, "X", allow_empty_cells=True, allow_empty_features=True, **names)
    assert presence.features.sum() == 7


def test_to_csr_matrix_of_backed_and_lazy_matrices(counts, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert (to_csr_matrix(file.create_dataset("x", data=counts)).toarray() == counts).all()


def test_to_csr_matrix_keeps_a_good_matrix(counts):
    matrix = sp.csr_matrix(counts)
    assert np.shares_memory(to_csr_matrix(matrix).data, matrix.data)
    assert np.shares_memory(to_csr_matrix(sp.csr_array(matrix)).data, matrix.data)
