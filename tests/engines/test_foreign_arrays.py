"""Arrays and tensors of any library as inputs, weights and constants: read by value, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import Plan, Session, graph, nn
from trtnet.errors import ShapeError, TrtnetError, UnsupportedError, WeightsError
from trtnet.values import values_of

ONES = np.ones((1, 3), np.float32)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Of a rectifier."""
    net = trtnet.Network("rtx")
    net.output("y", trtnet.relu(net.input("x", (1, 3))))
    with Session(Plan(graph.dumps(graph.read(net.definition))), device="cpu") as opened:
        yield opened


def freed() -> Any:
    tensor = torch.ones(1, 3)
    tensor.untyped_storage().resize_(0)
    return tensor


def fake() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(1, 3)


class Broken:
    """Its own code fails."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise KeyError("x")


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "freed": (freed, "a tensor has no memory: its storage was freed"),
    "fake": (fake, "a tensor on the meta device has no values"),
    "expanded": (lambda: torch.zeros(1).expand(10**10, 3), "got: 120.00 GB of shape"),
    "broadcast": (lambda: np.broadcast_to(np.float32(1), (10**10, 3)), "repeat its values too"),
    "windows": (
        lambda: np.lib.stride_tricks.sliding_window_view(np.zeros(200_000, "f4"), 100_000),
        "repeat its values too",
    ),
    "masked": (lambda: np.ma.masked_array(ONES, [[0, 1, 0]]), "masked values"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse, quantized or nested"),
    "csr": (lambda: torch.eye(3).to_sparse_csr(), "sparse, quantized or nested"),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "sparse, quantized or nested",
    ),
    "broken": (Broken, "Broken: 'x'"),
    "uninitialized": (torch.nn.parameter.UninitializedParameter, "uninitialized parameter"),
    "objects": (lambda: np.array([[{}, 1, 2]], object), ""),
    "structure": (lambda: np.zeros((1, 3), [("a", "<f4")]), ""),
    "times": (lambda: np.zeros((1, 3), "M8[s]"), ""),
    "text": (lambda: np.array([["a", "b", "c"]]), ""),
    "complex": (lambda: np.ones((1, 3), np.complex64), ""),
    "conjugate": (lambda: torch.ones(1, 3, dtype=torch.cfloat).conj(), ""),
    "meta": (lambda: torch.ones(1, 3, device="meta"), ""),
    "none": (lambda: None, ""),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_everywhere(session: Session, kind: str) -> None:
    make, message = REFUSED[kind]
    value = make()
    read = graph.loads(session_archive())
    uses: tuple[Callable[[], Any], ...] = (
        lambda: values_of(value, "x"),
        lambda: session(x=value),
        lambda: trtnet.reference.run(read, {"x": value}),
        lambda: trtnet.Network("rtx").constant(value, name="x"),
        lambda: nn.Linear(3, 1, bias=False).load_state_dict({"weight": value}),
    )
    for number, use in enumerate(uses):
        with pytest.raises(TrtnetError) as caught:
            use()
        assert isinstance(caught.value, (ShapeError, UnsupportedError, WeightsError))
        if number == 0:
            assert message in str(caught.value)


def session_archive() -> bytes:
    net = trtnet.Network("rtx")
    net.output("y", trtnet.relu(net.input("x", (1, 3))))
    return graph.dumps(graph.read(net.definition))


@pytest.mark.parametrize(
    "value",
    [
        ONES.astype(">f4"),
        np.ones((1, 6), np.float32)[:, ::-2],
        np.ones((3, 1), np.float32).T,
        np.broadcast_to(np.float32(1), (1, 3)),
        np.asmatrix(ONES),
        np.ma.masked_array(ONES, False),
        torch.ones(1, 3).expand(1, 3),
        torch._neg_view(-torch.ones(1, 3)),
        torch.ones(1, 3, requires_grad=True),
    ],
)
def test_strides_and_byte_orders_are_read_by_value(session: Session, value: Any) -> None:
    np.testing.assert_array_equal(np.asarray(session(x=value)["y"]), ONES)
    np.testing.assert_array_equal(values_of(value).array, ONES)


def test_a_masked_input_of_the_session_says_so(session: Session) -> None:
    with pytest.raises(ShapeError, match="x: an input is a masked array with masked values"):
        session(x=np.ma.masked_array(ONES, [[0, 1, 0]]))
