"""arq_core.datasets.readers.arrays: what people hand over is read right, or refused by the name of
its field.
"""

import datetime
import warnings

import numpy as np
import pandas
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.own import from_arrays

M = 40


def arrays():
    rng = np.random.default_rng(0)
    ends = np.arange(M) % 20 == 19
    states = rng.normal(size=(M, 3))
    return dict(
        observations=states,
        actions=rng.uniform(-1, 1, (M, 2)),
        rewards=rng.normal(size=M),
        terminals=ends & (np.arange(M) < 30),
        timeouts=ends & (np.arange(M) >= 30),
        next_observations=np.roll(states, -1, 0),
    )


def tensor(x):
    return torch.tensor(x, dtype=torch.float32)


WRONG = {
    "needs grad": (lambda x: tensor(x).requires_grad_(), r"requires grad.*\.detach\(\)"),
    "a parameter": (lambda x: torch.nn.Parameter(tensor(x)), r"requires grad.*\.detach\(\)"),
    "bfloat16": (lambda x: tensor(x).bfloat16(), r"torch\.bfloat16.*\.float\(\)"),
    "float8": (lambda x: tensor(x).to(torch.float8_e4m3fn), r"float8.*\.float\(\)"),
    "sparse": (lambda x: tensor(x).to_sparse(), r"sparse_coo.*\.to_dense\(\)"),
    "another device": (lambda x: tensor(x).to("meta"), r"device meta.*\.cpu\(\)"),
    "rows that need grad": (
        lambda x: list(tensor(x).requires_grad_()),
        r"give torch\.stack\((\w+)\)\.detach\(\)",
    ),
    "dates in a table": (
        lambda x: table(x).astype(object).map(lambda _: datetime.date(2024, 1, 1)),
        "saw object .*an entry is date",
    ),
    "two faults": (
        lambda x: tensor(x).bfloat16().requires_grad_(),
        r"grad and .*bfloat16.*\.detach\(\)\.float\(\)",
    ),
    "tensors that need grad": (lambda x: list(tensor(x).requires_grad_()), "row 0: .*grad"),
    "tensors in lists": (lambda x: [[tensor(r).requires_grad_()] for r in x], "grad"),
    "nested": (
        lambda x: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)]),
        "nested tensor",
    ),
    "nothing": (lambda x: None, "saw None"),
    "nothing in it": (lambda x: [None] * M, "saw None at row 0"),
    "ragged": (lambda x: [[1.0, 2, 3]] * (M - 1) + [[1.0, 2]], "different lengths .2 to 3"),
    "ragged, deeper": (lambda x: [[1.0, [2]]] * M, "different lengths"),
    "objects": (lambda x: np.array([object()] * M), "saw object .*an entry is object"),
    "none in rows": (lambda x: [[1.0, None, 2]] * M, "saw object .*an entry is NoneType"),
    "complex": (lambda x: x.astype(complex), "saw complex128"),
    "text": (lambda x: x.astype(str), "saw <U"),
    "dates": (lambda x: x.astype("M8[s]"), "saw datetime64"),
    "a table of fields": (lambda x: np.zeros(M, [("a", "f4")]), r"saw \[\('a'"),
    "a number": (lambda x: 1.0, "saw float, which numpy takes for a single value"),
    "a word": (lambda x: "abc", "saw str, which"),
    "an iterator": (lambda x: iter(x), "saw .*iterator, which"),
    "a dict": (lambda x: {"a": x}, "saw dict, which"),
    "empty": (lambda x: [], r"saw float64 of shape \(0,\)"),
    "no columns": (lambda x: np.zeros((M, 0)), r"of shape \(40, 0\)"),
    "too large": (lambda x: [10**30] * M, "integer is too large"),
    "missing in pandas": (lambda x: table(x).astype("Float64").mask(table(x) == x.flat[0]), "saw"),
    "texts in pandas": (lambda x: table(x).astype(str), "saw object .*an entry is str"),
}


def table(x):
    return pandas.DataFrame(x) if x.ndim == 2 else pandas.Series(x)


@pytest.mark.parametrize("field", arrays())
@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_used_is_refused_by_the_name_of_its_field(kind, field):
    if kind == "missing in pandas" and field in ("terminals", "timeouts"):
        pytest.skip("all of them are equal")
    if kind == "nothing" and field == "next_observations":
        pytest.skip("they may be left out")
    make, message = WRONG[kind]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        x = make(arrays()[field])
        with pytest.raises(DataError, match=rf"^{field}: .*{message}"):
            from_arrays(**arrays() | {field: x})


RIGHT = {
    "tensors": torch.tensor,
    "tensors in a list": lambda x: list(torch.tensor(x)),
    "lists": lambda x: x.tolist(),
    "tuples of arrays": tuple,
    "tables": table,
    "tables of pandas' own types": lambda x: table(x).convert_dtypes(),
    "series in a list": lambda x: [pandas.Series(r) for r in x] if x.ndim == 2 else list(x),
    "columns": lambda x: x.reshape(M, -1),
    "in reverse in memory": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "of the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "extended precision": lambda x: x.astype(np.longdouble),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_numbers_of_any_kind_are_the_same_numbers(kind):
    given = {name: RIGHT[kind](x) for name, x in arrays().items()}
    assert from_arrays(**given).sha256 == from_arrays(**arrays()).sha256


def test_a_table_with_columns_of_several_types_is_read_by_its_columns():
    columns = pandas.DataFrame(
        {"a": arrays()["observations"][:, 0], "b": np.arange(M) % 2 == 0, "c": range(M)}
    )
    read = from_arrays(**arrays() | dict(observations=columns)).sha256
    plain = columns.astype(np.float64).to_numpy()
    assert read == from_arrays(**arrays() | dict(observations=plain)).sha256


def test_a_sparse_matrix_is_told_how_to_become_an_array():
    sparse = pytest.importorskip("scipy.sparse", reason="needs scipy")
    with pytest.raises(DataError, match=r"^actions: saw csr_matrix.*actions\.toarray\(\)"):
        from_arrays(**arrays() | dict(actions=sparse.csr_matrix(arrays()["actions"])))


def test_the_caller_s_arrays_stay_as_they_were():
    given = arrays()
    given["actions"][0] = 1.5
    before = {name: x.copy() for name, x in given.items()}
    from_arrays(**given)
    for name, x in given.items():
        np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("columns", [2, 4])
def test_observations_before_and_after_a_step_have_the_same_columns(columns):
    with pytest.raises(DataError, match=f"next_observations: saw {columns} .* expected 3"):
        from_arrays(**arrays() | dict(next_observations=np.zeros((M, columns))))


@pytest.mark.parametrize("name", [None, 3, b"mine"])
def test_a_name_is_a_text(name):
    with pytest.raises(DataError, match="name: saw"):
        from_arrays(**arrays(), name=name)
