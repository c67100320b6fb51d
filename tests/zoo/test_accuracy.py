"""The table of accuracies: what it counts, which networks it measures, and ImageNet's folders."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import trtnet
from trtnet import graph


@pytest.fixture(scope="session")
def data(accuracy: ModuleType) -> ModuleType:
    return importlib.import_module("accuracy_data")


@pytest.fixture(scope="session")
def networks(accuracy: ModuleType) -> ModuleType:
    return importlib.import_module("accuracy_networks")


def _pictures(folder: Path, counts: dict[str, int]) -> None:
    """Folders of gray images, each as bright as its number in the order of the names."""
    image = pytest.importorskip("PIL.Image")
    number = 0
    for name, count in sorted(counts.items()):
        (folder / name).mkdir()
        for index in range(count):
            image.new("RGB", (40, 30), (number,) * 3).save(folder / name / f"{index}.png")
            number += 1


def _constant_network(bias: np.ndarray) -> graph.Graph:
    """Logits that are the pixels plus `bias`."""
    network = trtnet.Network("rtx")
    images = network.input("input", ("N", len(bias)))
    network.output("logits", images + network.constant(bias))
    return graph.read(network.definition)


# What is counted


def test_classes_and_noise_are_those_of_each_network(accuracy: ModuleType) -> None:
    rng = np.random.default_rng(0)
    biases = np.zeros((2, 5), np.float32)
    biases[1] = [0, 0.5, 0, 0, -0.25]
    images = rng.standard_normal((12, 5)).astype(np.float32)
    batches = [(images[:8], np.arange(8)), (images[8:], np.arange(8, 12))]
    found = accuracy.classify(map(_constant_network, biases), batches, "cpu")
    np.testing.assert_array_equal(found.labels, np.arange(12))
    wanted = [(images + bias).argmax(1) for bias in biases]
    np.testing.assert_array_equal(found.classes, wanted)
    noise = 12 * (0.5**2 + 0.25**2)
    assert found.sqnr_db[0] == np.inf
    assert found.sqnr_db[1] == pytest.approx(10 * np.log10((images**2).sum() / noise), abs=1e-4)


def test_scores_by_hand(accuracy: ModuleType, networks: ModuleType) -> None:
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    fp32 = np.array([0, 1, 2, 3, 0, 1, 2, 0])  # 7 of 8
    int8 = np.array([0, 1, 2, 0, 1, 1, 2, 3])  # loses two, wins one
    results = accuracy.Results(np.stack([fp32, int8]), labels, np.array([np.inf, 30.0]))
    rows = [row for row in networks.variants() if (row.precision, row.method) in
            (("fp32", ""), ("int8", "mse"))]  # fmt: skip
    first, second = accuracy.score(rows, results, {"int8": 12.5})
    assert (first.top1, first.drop, first.same, first.limit) == (7 / 8, 0, 1, None)
    assert (second.top1, second.drop, second.same) == (6 / 8, 1 / 8, 5 / 8)
    # The paired differences are two of +1, one of -1 and five of 0.
    assert second.error == pytest.approx(np.sqrt(3 / 8 - 1 / 64) / np.sqrt(8))
    assert second.passed
    missed = accuracy.score(rows, results, {"int8": 12.4})[1]
    assert not missed.passed
    task = accuracy.digits_tasks()[0]
    text = list(accuracy.section(task, [first, missed]))
    assert text[-2] == "| FP32 | - | 87.50% | - | - | 100.00% | - |"
    assert text[-1].startswith("| INT8 | mse | 75.00% | 12.50 ± 21.19 | 12.4 MISSED | 62.50% |")


# What is measured


def test_every_precision_is_measured(networks: ModuleType) -> None:
    rows = [(row.precision, row.method) for row in networks.variants()]
    methods = ("minmax", "percentile", "entropy", "mse")
    quantized = [(name, method) for name in ("int8", "fp8") for method in methods]
    assert rows == [("fp32", ""), ("fp16", ""), ("bf16", ""), *quantized]


@pytest.mark.parametrize(
    ("precision", "computed", "stored"),
    [
        ("fp32", "float32", set()),
        ("fp16", "float16", set()),
        ("bf16", "bfloat16", set()),
        ("int8", "float16", {"int8"}),
        ("fp8", "float16", {"float8_e4m3"}),
    ],
)
def test_the_networks_really_have_their_precision(
    precision: str,
    computed: str,
    stored: set[str],
    accuracy: ModuleType,
    networks: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    data: ModuleType,
) -> None:
    monkeypatch.setattr(data, "TRAINING", 16)
    variant = next(row for row in networks.variants() if row.precision == precision)
    read = networks.Zoo(accuracy.digits_tasks()[0], "rtx", "cpu").graph(variant)
    products = [layer for layer in read.layers if layer.type == "CONVOLUTION"]
    assert len(products) == 3
    assert {read.tensors[layer.outputs[0]].dtype for layer in products} == {computed}
    pairs = [layer for layer in read.layers if layer.type == "QUANTIZE"]
    assert {read.tensors[layer.outputs[0]].dtype for layer in pairs} == stored


def test_networks_are_calibrated_with_training_digits(
    accuracy: ModuleType, data: ModuleType, train_lenet: ModuleType
) -> None:
    task = accuracy.digits_tasks()[0]
    found = task.calibration(_constant_network(np.zeros(2, np.float32)))
    assert found.items == data.TRAINING
    images, labels = train_lenet.digits("train")
    known = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    assert found.labels is not None
    for batch, answers in zip(found.batches, found.labels, strict=True):
        pairs = zip(batch["input"], answers, strict=True)
        assert all(known[image.tobytes()] == answer for image, answer in pairs)


def test_fp32_is_pytorchs_accuracy(accuracy: ModuleType, networks: ModuleType) -> None:
    task = accuracy.digits_tasks()[0]
    read = networks.Zoo(task, "rtx", "cpu").graph(networks.variants()[0])
    found = accuracy.classify([read], task.held_out(), "cpu")
    stated = float(task.load().metadata["accuracy"])
    assert (found.classes[0] == found.labels).mean() == pytest.approx(stated, abs=1 / 450)


def test_a_policy_is_one_row_more(
    accuracy: ModuleType, networks: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "mix.toml"
    trtnet.Policy("int8", keep={"c1": "fp16", "output": "fp16"}).save(path)
    tasks = accuracy.digits_tasks()
    assert accuracy.policy_files([f"lenet5={path}"], tasks)["lenet5"] == [path]
    policy = trtnet.Policy.load(path)
    variant = networks.Zoo(tasks[0], "rtx", "cpu").mix(policy, "`mix.toml`")
    assert variant.label == "mix, `mix.toml`: 3 of 5 quantized"
    assert variant.precision == "searched"
    assert variant.policy == policy


@pytest.mark.parametrize("given", ["lenet5", "lenet5=", "resnet50=mix.toml", "=mix.toml"])
def test_policies_that_mean_nothing(given: str, accuracy: ModuleType, raises) -> None:
    with raises(trtnet.UsageError, "--policy", "MODEL=FILE", "lenet5, resnet20_digits"):
        accuracy.policy_files([given], accuracy.digits_tasks())


def test_errors_are_told_in_words(
    accuracy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy.main(["--imagenet", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


# ImageNet's folders


def test_classes_are_the_folders_in_order(data: ModuleType, tmp_path: Path) -> None:
    _pictures(tmp_path, {"n02": 2, "n01": 1, "n10": 3})
    (tmp_path / "n02" / "notes.txt").write_text("no image")
    (tmp_path / "ILSVRC.csv").write_text("no folder")
    from torchvision.datasets import ImageFolder

    expected = [(Path(path), label) for path, label in ImageFolder(str(tmp_path)).samples]
    assert data.labelled_images(tmp_path, 3) == expected
    assert [label for _, label in expected] == [0, 1, 1, 2, 2, 2]
    assert data.labelled_images(tmp_path, 3, limit=3) == expected[::2]
    assert data.labelled_images(tmp_path, 3, limit=99) == expected


def test_images_are_read_in_order_and_prepared_like_torchvision(
    data: ModuleType, tmp_path: Path
) -> None:
    from PIL import Image
    from torchvision.models import ResNet50_Weights

    _pictures(tmp_path, {"a": 3, "b": 2})
    labelled = data.labelled_images(tmp_path, 2)
    transform = ResNet50_Weights.IMAGENET1K_V1.transforms()
    preprocessing = {"resize_size": [256], "crop_size": [224], "mean": transform.mean,
                     "std": transform.std, "interpolation": "bilinear"}  # fmt: skip
    batches = list(data.read_images(labelled, preprocessing, 2))
    assert [labels.tolist() for _, labels in batches] == [[0, 0], [0, 1], [1]]
    images = np.concatenate([images for images, _ in batches])
    expected = torch.stack([transform(Image.open(path)) for path, _ in labelled]).numpy()
    np.testing.assert_allclose(images, expected, atol=0.02)  # torchvision rounds after resizing


def test_imagenet_adds_resnet50_with_both_weights(data: ModuleType, tmp_path: Path) -> None:
    _pictures(tmp_path, {f"n{number:08}": int(number == 7) for number in range(1000)})
    tasks = data.imagenet_tasks(tmp_path, None)
    assert [(task.model, task.weights) for task in tasks] == [
        ("resnet50", "IMAGENET1K_V1"),
        ("resnet50", "IMAGENET1K_V2"),
    ]
    from torchvision.models import ResNet50_Weights

    for task, aim in zip(tasks, (75.95, 80.5), strict=True):  # what INT8 has to reach
        metrics = ResNet50_Weights[task.weights].meta["_metrics"]["ImageNet-1K"]
        assert metrics["acc@1"] - task.limits["int8"] == pytest.approx(aim, abs=0.001)


@pytest.mark.parametrize(
    ("counts", "texts"),
    [
        ({}, ("0 classes", "2 folders", "no folders")),
        ({"a": 1}, ("1 classes", "2 folders")),
        ({"a": 1, "b": 1, "c": 1}, ("3 classes", "a, b, c", "ImageFolder")),
        ({"a": 0, "b": 0}, ("no images", ".jpeg")),
    ],
)
def test_folders_that_are_not_imagenet(
    counts: dict[str, int], texts: tuple[str, ...], data: ModuleType, tmp_path: Path, raises
) -> None:
    _pictures(tmp_path, counts)
    with raises(trtnet.UsageError, *texts):
        data.labelled_images(tmp_path, 2)
