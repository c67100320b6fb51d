from __future__ import annotations

import copy
import re
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from trtnet import backend
from trtnet.errors import VerificationError
from trtnet.verification import BF16_TOLERANCE, FP16_TOLERANCE, Tolerance, compare, verify
from trtnet.verification.torch_run import tensors_in, with_tensors


class Model(nn.Module):
    """A block whose ReLU is used twice and works in place, and a head."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential()
        self.block.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.block.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.block(x))
        x = self.relu(self.conv2(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(4)
    model = Model()
    with torch.no_grad():
        for _ in range(3):  # settles the statistics
            model(torch.randn(4, 3, 8, 8))
    return model.eval()


@pytest.fixture
def inputs():
    return {"x": np.random.default_rng(5).standard_normal((2, 3, 8, 8)).astype(np.float32)}


class Hand:
    """The network a user would make of `model`, with BatchNorm folded, and room for mistakes."""

    def __init__(self, model, precision="fp32", mistake=""):
        loaded = backend.load("rtx")
        self.trt, self.precision, self.mistake = loaded.trt, precision, mistake
        self.exactness, self.check, self.roots = precision, lambda: None, []
        self.builder = loaded.builder()
        self.definition = loaded.create_network(self.builder)
        self.dtype = np.float16 if precision == "fp16" else np.float32
        self.held, self.module_outputs = [], {}
        x = self.definition.add_input("x", self.trt.float32, (-1, 3, 8, 8))
        y = self.forward(model, x)
        self.definition.mark_output(y)
        self.inputs = {"x": x}
        self.outputs = {"logits": y}

    def weights(self, array):
        self.held.append(np.ascontiguousarray(array.detach().numpy(), self.dtype))
        return self.held[-1]

    def named(self, layer, *paths):
        output = layer.get_output(0)
        output.name = paths[0]
        self.module_outputs.update(dict.fromkeys(paths, output))
        return output

    def conv(self, x, kernel, bias):
        return self.definition.add_convolution_nd(
            x, kernel.shape[0], tuple(kernel.shape[2:]), self.weights(kernel), self.weights(bias)
        )

    def forward(self, model, x):
        net, trt = self.definition, self.trt
        if self.precision == "fp16":
            x = net.add_cast(x, trt.float16).get_output(0)
        bn = model.block.bn
        eps = 0.1 if self.mistake == "eps" else bn.eps
        scale = bn.weight / torch.sqrt(bn.running_var + eps)
        kernel = model.block.conv.weight * scale.reshape(-1, 1, 1, 1)
        x = self.named(self.conv(x, kernel, bn.bias - bn.running_mean * scale), "block.bn", "block")
        relu = trt.ActivationType.RELU
        x = self.named(net.add_activation(x, relu), "relu")
        kernel = model.conv2.weight
        if self.mistake == "permuted":
            kernel = kernel.transpose(0, 1)
        bias = model.conv2.bias * torch.nan if self.mistake == "nan" else model.conv2.bias
        x = self.named(self.conv(x, kernel, bias), "conv2")
        if self.mistake != "no relu":
            x = net.add_activation(x, relu).get_output(0)
        self.module_outputs["relu#1"] = x
        keep = self.mistake == "shape"
        x = net.add_reduce(x, trt.ReduceOperation.AVG, 0b1100, False).get_output(0)
        weight = self.weights(model.fc.weight)
        weight = net.add_constant(weight.shape, weight).get_output(0)
        none, transpose = trt.MatrixOperation.NONE, trt.MatrixOperation.TRANSPOSE
        x = net.add_matrix_multiply(x, none, weight, transpose).get_output(0)
        bias = self.weights(model.fc.bias.reshape(1, -1))
        bias = net.add_constant(bias.shape, bias).get_output(0)
        layer = net.add_elementwise(x, bias, trt.ElementWiseOperation.SUM)
        x = self.named(layer, "fc")
        if keep:
            layer = net.add_shuffle(x)
            layer.reshape_dims = (0, 1, 5)
            self.module_outputs["fc"] = x = layer.get_output(0)
        if self.precision == "fp16":
            x = net.add_cast(x, trt.float32).get_output(0)
        return x


@pytest.mark.parametrize(
    ("precision", "float64"), [("fp32", False), ("tf32", False), ("fp16", False), ("fp32", True)]
)
def test_a_faithful_network_passes(model, inputs, precision, float64):
    result = verify(Hand(model, precision), model, inputs, float64=float64)
    assert result.passed
    assert result.first_divergent is None
    # In execution order; the folded convolution has no tensor of its own.
    modules = [row.module for row in result.rows]
    assert modules == ["block.bn", "block", "relu", "conv2", "relu#1", "fc"]
    assert result.rows[0].shape == (2, 4, 6, 6)
    assert [row.module for row in result.outputs] == ["logits"]
    assert result.argmax_agreement == 1
    assert result.worst.rel_l2 < (1e-2 if precision == "fp16" else 1e-6)
    result.require()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_can_be_called_in_inference_mode(model, inputs, precision):
    network = Hand(model, precision)
    with torch.inference_mode():
        assert verify(network, model, inputs).passed


@pytest.mark.parametrize(
    ("mistake", "module", "modules"),
    [
        ("eps", "block.bn", ("block.conv", "block.bn")),  # folded: it could be either
        ("permuted", "conv2", ("conv2",)),
        ("no relu", "relu#1", ("relu#1",)),
        ("nan", "conv2", ("conv2",)),
    ],
)
@pytest.mark.parametrize("float64", [False, True])
def test_the_first_wrong_module_is_named(model, inputs, mistake, module, modules, float64):
    result = verify(Hand(model, mistake=mistake), model, inputs, float64=float64)
    assert not result.passed
    assert result.first_divergent == module
    assert (result.blame.kind, result.blame.modules) == ("module", modules)
    wrong = [row.module for row in result.local if not result.local_tolerance.accepts(row)]
    # Each is judged on the network's own input: those behind the mistake are right.
    assert wrong[0] == module
    assert len(wrong) == 1 or mistake == "nan"  # NaN spreads
    with pytest.raises(VerificationError, match=f"^{re.escape(' + '.join(modules))}: ") as caught:
        result.require()
    assert ("NaN or infinity in the network" in str(caught.value)) == (mistake == "nan")


def test_a_network_without_module_names_in_its_layers_leaves_a_doubt(model, inputs):
    hand = Hand(model, mistake="permuted")
    assert "or the code before it does: the model (between relu and conv2)" in (
        verify(hand, model, inputs).blame.message
    )


def test_a_shape_that_differs_diverges(model, inputs):
    result = verify(Hand(model, mistake="shape"), model, inputs)
    assert result.first_divergent == "fc"
    assert result.worst.note == "shape (2, 1, 5) in the network, (2, 5) in PyTorch"
    assert result.argmax_agreement is None


def test_only_an_output_differs(model, inputs):
    hand = Hand(model, mistake="eps")
    hand.module_outputs = {}
    result = verify(hand, model, inputs)
    assert result.rows == ()
    assert result.first_divergent == "logits"
    doubt = "the model (before fc) (without tensors in the network: block, relu, conv2, relu#1)"
    assert doubt in result.blame.message


def test_tolerance_can_be_given(model, inputs):
    hand = Hand(model, mistake="eps")
    assert verify(hand, model, inputs, tolerance=Tolerance(cosine=0.5)).passed
    assert not verify(hand, model, inputs, tolerance=Tolerance(cosine=0.5, rel_l2=1e-9)).passed


@pytest.mark.parametrize("float64", [False, True])
def test_the_model_is_left_as_it_was(model, inputs, float64):
    model.train()
    model.block.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    state = copy.deepcopy(model.state_dict())
    verify(Hand(model), model, inputs, float64=float64)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(not module._forward_hooks for module in model.modules())
    for key, value in model.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key])


def test_hooks_are_removed_when_the_model_fails(model, inputs):
    hand = Hand(model)
    model.fc = nn.Linear(3, 5)
    with pytest.raises(RuntimeError):
        verify(hand, model, inputs)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "wrong", [{}, {"image": np.zeros((2, 3, 8, 8), np.float32)}, {"x": np.zeros((2, 3, 9, 8))}]
)
def test_inputs_that_do_not_fit(model, wrong):
    with pytest.raises(VerificationError, match="input"):
        verify(Hand(model), model, wrong)


class Wrapped(nn.Module):
    def __init__(self, model, wrap):
        super().__init__()
        self.model, self.wrap = model, wrap

    def forward(self, x):
        return self.wrap(self.model(x))


@pytest.mark.parametrize(
    "wrap", [lambda y: {"aux": -y, "logits": y}, lambda y: (y,), lambda y: {"out": y}]
)
def test_outputs_are_matched_by_name_or_in_order(model, inputs, wrap):
    hand = Hand(model)
    hand.module_outputs = {}
    torch_model = Wrapped(model, wrap)
    if "out" in wrap(torch.zeros(1)):
        with pytest.raises(VerificationError, match="outputs of the network") as caught:
            verify(hand, torch_model, inputs)
        assert "expected: out" in str(caught.value)
    else:
        assert verify(hand, torch_model, inputs).passed


def test_module_that_returns_several_tensors():
    loaded = backend.load("rtx")
    builder = loaded.builder()
    net = loaded.create_network(builder)
    x = net.add_input("x", loaded.trt.float32, (1, 4))
    hidden = net.add_activation(x, loaded.trt.ActivationType.TANH).get_output(0)
    cell = net.add_activation(hidden, loaded.trt.ActivationType.SIGMOID).get_output(0)
    for tensor in (hidden, cell):
        net.mark_output(tensor)

    class Two(nn.Module):
        def forward(self, x):
            return torch.tanh(x), torch.sigmoid(x)  # the second is not the network's

    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            return self.two(x)

    network = SimpleNamespace(
        definition=net, exactness="fp32", check=lambda: None, roots=[], inputs={"x": x},
        outputs={"h": hidden, "c": cell},
        module_outputs={"two[0]": hidden, "two[1]": cell},
    )  # fmt: skip
    result = verify(network, Parent(), {"x": np.ones((1, 4), np.float32)})
    assert result.first_divergent == "two[1]"
    assert result.blame.modules == ("two",)
    assert [row.module for row in result.rows] == ["two[0]", "two[1]"]


def test_metrics_against_numpy():
    rng = np.random.default_rng(0)
    b = rng.standard_normal((3, 50)).astype(np.float32)
    a = (b + 0.01 * rng.standard_normal(b.shape)).astype(np.float32)
    row = compare("m", torch.from_numpy(a), torch.from_numpy(b))
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    distance = np.linalg.norm(a - b) / np.linalg.norm(b)
    assert row.shape == (3, 50)
    assert row.max_abs == pytest.approx(np.abs(a - b).max(), rel=1e-5)
    assert row.rel_l2 == pytest.approx(distance, rel=1e-5)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert 1 - row.cosine == pytest.approx(1 - cosine, rel=1e-4)
    assert row.sqnr_db == pytest.approx(-20 * np.log10(distance), abs=1e-4)


def test_metrics_of_zeros_and_of_equal_tensors():
    zero, one = torch.zeros(4), torch.ones(4)
    assert compare("m", zero, zero).rel_l2 == 0
    assert compare("m", zero, zero).cosine == 1
    assert compare("m", one, one).sqnr_db == np.inf
    assert compare("m", one, zero).rel_l2 == np.inf
    assert not FP16_TOLERANCE.accepts(compare("m", zero, one))
    assert compare("m", -one, one).cosine == pytest.approx(-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_never_pass(bad):
    row = compare("m", torch.tensor([1.0, bad]), torch.tensor([1.0, bad]))
    assert not BF16_TOLERANCE.accepts(row)
    assert not Tolerance().accepts(row)
    assert "NaN or infinity" in row.note


def test_integers_are_judged_by_the_share_that_agrees():
    theirs = torch.arange(10)
    ours = theirs.clone()
    ours[3] = 1000  # far off, but one of ten
    row = compare("labels", ours.int(), theirs)
    assert row.agreement == 0.9
    assert Tolerance(rel_l2=1e-9, agreement=0.9).accepts(row)
    assert not Tolerance(agreement=0.91).accepts(row)
    assert compare("logits", ours.float(), theirs.float()).agreement is None


def test_tensors_are_replaced_wherever_they_are():
    pair = namedtuple("pair", ["a", "b"])
    value = {"x": [torch.ones(1), None, "text"], "y": pair(torch.ones(2), (3, torch.ones(3)))}
    changed = with_tensors(value, (2 * tensor for tensor in tensors_in(value)))
    assert [tensor.tolist() for tensor in tensors_in(changed)] == [[2], [2, 2], [2, 2, 2]]
    assert changed["x"][1:] == [None, "text"]
    assert isinstance(changed["y"], pair)
    assert changed["y"].b[0] == 3
    assert value["x"][0].tolist() == [1]
