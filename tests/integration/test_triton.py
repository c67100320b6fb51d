"""Exported models in a real Triton Inference Server, asked over gRPC and HTTP.

The server's environment is the folder in TRTNET_TRITON, which ``tools/triton_server.py`` makes.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from triton_client import Client
from triton_server import ROOT, Server, python_of, serve

import trtnet
from trtnet.pipeline import Recipe
from trtnet.serving.triton import Settings, export

if "TRTNET_TRITON" not in os.environ and "TRTNET_INTEGRATION" not in os.environ:
    pytest.skip("TRTNET_TRITON names no environment of a server", allow_module_level=True)
ENVIRONMENT = Path(os.environ["TRTNET_TRITON"])  # a skip would be a failure in the integration run

from tritonclient.utils import InferenceServerException  # noqa: E402

MODELS = {"digits": "resnet20_digits", "pixels": "unet", "shapes": "yolox_shapes"}
SHAPES = {"digits": (1, 32, 32), "pixels": (3, 128, 128), "shapes": (3, 416, 416)}
PROTOCOLS: tuple[Literal["grpc", "http"], ...] = ("grpc", "http")
MAX_BATCH = 4
PICTURES = [ROOT / "docs" / "images" / name for name in ("shapes.png", "shapes_few.png")]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    for name, model in MODELS.items():
        settings = Settings(name, MAX_BATCH, dynamic_batching=20_000, ensemble=True)
        export(Recipe(model, backend="torch", verify=False), folder, settings)
    export(of_kinds(), folder, Settings("kinds", instances=2))
    export(of_outlines(), folder, Settings("outlines", ensemble=True))
    return folder


def of_outlines() -> trtnet.Plan:
    """A detector with masks and keypoints: two objects at the same places of every image."""
    random = np.random.default_rng(0)
    net = trtnet.Network(backend="torch")
    zero = net.input("input", ("N", 3, 64, 64)).mean((1, 2, 3)) * 0.0
    for name, values in {
        "detections": np.float32([[[8, 8, 40, 30, 0.5, 1], [20, 5, 60, 40, 0.9, 0]]]),
        "det_masks": random.random((1, 2, 28, 28), np.float32),
        "det_points": 40 * random.random((1, 2, 5, 3), np.float32),
    }.items():
        net.output(name, zero.reshape(-1, *[1] * (values.ndim - 1)) + net.constant(values))
    size = (3, 64, 64)
    shapes = {"input": trtnet.Shapes((1, *size), (1, *size), (MAX_BATCH, *size))}
    about = {"preprocessing": {"letterbox_size": 64}, "class_names": ["thing", "other"]}
    return trtnet.build(net, shapes, sidecar=about)


def of_kinds() -> trtnet.Plan:
    """Every type that numpy and Triton share, and an axis of any size from 1 to 9."""
    net = trtnet.Network(backend="torch")
    numbers = net.input("numbers", ("N", "T"), dtype="int32")
    flags = net.input("flags", ("N", "T"), dtype="bool")
    halves = net.input("halves", ("N", "T"), dtype="float16")
    levels = net.input("levels", ("N", "T"), dtype="uint8")
    net.output("long", numbers.to(trtnet.int64) * 2)
    net.output("wide", levels.to(trtnet.float32))
    net.output("inverse", flags.logical_not())
    net.output("twice", halves + halves, dtype="float16")
    shapes = trtnet.Shapes((1, 1), (2, 3), (MAX_BATCH, 9))
    return trtnet.build(net, dict.fromkeys(("numbers", "flags", "halves", "levels"), shapes))


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with serve(ENVIRONMENT, repository, repository.parent / "log", threads) as started:
        yield started


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    made = client_of(server, request.param)
    yield made
    made.close()


def client_of(server: Server, protocol: Literal["grpc", "http"]) -> Client:
    return Client(protocol, server.grpc if protocol == "grpc" else server.http)


def images(name: str, count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, *SHAPES[name])).astype(np.float32)


def session_of(repository: Path, name: str) -> trtnet.Session:
    return trtnet.Session(repository / name / "1" / "model.engine", device="cpu")


def encoded(paths: list[Path]) -> np.ndarray:
    return np.array([[path.read_bytes()] for path in paths], object)


def test_the_environment_has_an_old_numpy_and_all_else_of_this_one() -> None:
    code = (
        "import numpy, torch, trtnet; print(numpy.__version__, torch.__version__, trtnet.__file__)"
    )
    found = subprocess.run([str(python_of(ENVIRONMENT)), "-c", code], capture_output=True,
                           text=True, check=True, cwd="/").stdout.split()  # fmt: skip
    assert found[0].startswith("1.")
    assert found[1:] == [torch.__version__, str(ROOT / "trtnet" / "__init__.py")]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [1, MAX_BATCH])
def test_outputs_are_those_of_a_session(
    client: Client, repository: Path, name: str, count: int
) -> None:
    values = images(name, count)
    with session_of(repository, name) as session:
        want = session(values)
    got = client.ask(name, {"input": values})
    assert got.keys() == want.keys()
    for output in want:
        np.testing.assert_array_equal(got[output], want[output])


def test_every_type_goes_there_and_back(client: Client) -> None:
    numbers = np.arange(-6, 6, dtype=np.int32).reshape(2, 6)
    flags, halves = numbers % 3 == 0, (numbers / 7).astype(np.float16)
    levels = (numbers + 250).astype(np.uint8)
    arrays = {"numbers": numbers, "flags": flags, "halves": halves, "levels": levels}
    got = client.ask("kinds", arrays)
    np.testing.assert_array_equal(got["wide"], levels)
    np.testing.assert_array_equal(got["long"], numbers.astype(np.int64) * 2)
    np.testing.assert_array_equal(got["inverse"], ~flags)
    np.testing.assert_array_equal(got["twice"], halves + halves)
    assert [got[name].dtype.name for name in ("long", "inverse", "twice")] == [
        "int64", "bool", "float16"
    ]  # fmt: skip
    only = client.ask("kinds", arrays, ["twice"])
    assert [*only] == ["twice"]


@pytest.mark.parametrize("name", MODELS)
def test_requests_at_once_are_mixed_and_answered_each_with_its_own(
    server: Server, repository: Path, name: str
) -> None:
    batches = [images(name, 1, seed) for seed in range(16)]
    with session_of(repository, name) as session:
        want = [session(values) for values in batches]
    clients = [client_of(server, PROTOCOLS[place % 2]) for place in range(len(batches))]
    before = clients[0].executions(name)

    def ask(place: int) -> dict[str, np.ndarray]:
        return clients[place].ask(name, {"input": batches[place]})

    # HTTP's client belongs to the thread that asks, so each has one of its own
    with ThreadPoolExecutor(len(batches)) as pool:
        got = list(pool.map(ask, range(len(batches))))
    deadline = time.monotonic() + 10  # the server counts after it has answered
    rows = 0
    while rows < len(batches) and time.monotonic() < deadline:
        time.sleep(0.05)
        counts = clients[0].executions(name)
        executions, rows = (b - a for a, b in zip(before, counts, strict=True))
    assert rows == len(batches)
    assert executions < rows
    for one, other in zip(got, want, strict=True):
        for output in other:
            scale = max(1.0, float(np.abs(other[output]).max()))
            np.testing.assert_allclose(one[output], other[output], rtol=0, atol=1e-5 * scale)


def test_a_classifier_names_what_encoded_images_show(client: Client, repository: Path) -> None:
    got = client.ask("digits_images", {"image": encoded(PICTURES)})
    with trtnet.Classifier(repository / "digits" / "1" / "model.engine", device="cpu") as classify:
        want = classify(PICTURES)
    for place, result in enumerate(want):
        names = [name.decode() for name in got["class_names"][place]]
        assert names == [each.name for each in result.classes]
        assert got["classes"][place].tolist() == [each.index for each in result.classes]
        expected = [each.probability for each in result.classes]
        np.testing.assert_allclose(got["probabilities"][place], expected, atol=1e-5)


def test_a_segmentation_model_gives_masks_of_the_images(client: Client, repository: Path) -> None:
    from PIL import Image

    got = client.ask("pixels_images", {"image": encoded(PICTURES)})
    with trtnet.Segmenter(repository / "pixels" / "1" / "model.engine", device="cpu") as segment:
        want = segment(PICTURES)
    for place, result in enumerate(want):
        mask = np.asarray(Image.open(io.BytesIO(got["mask"][place, 0])))
        np.testing.assert_array_equal(mask, result.class_map)
        for each in result.classes:
            assert got["shares"][place, each.index] == pytest.approx(each.share, abs=1e-6)


def test_a_detector_gives_boxes_in_pixels_of_the_images(client: Client, repository: Path) -> None:
    got = client.ask("shapes_images", {"image": encoded(PICTURES)})
    with trtnet.Detector(repository / "shapes" / "1" / "model.engine", device="cpu") as detect:
        want = detect(PICTURES)
    for place, result in enumerate(want):
        count = int(got["num_dets"][place, 0])
        assert count == len(result.boxes) > 10
        np.testing.assert_allclose(got["boxes"][place, :count], result.boxes, atol=1e-3)
        np.testing.assert_allclose(got["scores"][place, :count], result.scores, atol=1e-5)
        assert got["classes"][place, :count].tolist() == result.classes.tolist()
        assert [name.decode() for name in got["class_names"][place, :count]] == [*result.names]
        assert not got["scores"][place, count:].any()


def test_a_detector_gives_masks_and_keypoints_in_the_images(
    client: Client, repository: Path
) -> None:
    from PIL import Image

    got = client.ask("outlines_images", {"image": encoded(PICTURES)})
    with trtnet.Detector(repository / "outlines" / "1" / "model.engine", device="cpu") as detect:
        want = detect(PICTURES)
    for place, result in enumerate(want):
        assert got["num_dets"][place, 0] == len(result.boxes) == 2
        np.testing.assert_allclose(got["keypoints"][place], result.keypoints, rtol=1e-6)
        for index, content in enumerate(got["masks"][place]):
            mask = np.asarray(Image.open(io.BytesIO(content)))
            assert mask.shape == (result.height, result.width)
            np.testing.assert_array_equal(mask > 0, result.mask(index))


DIGIT = images("digits", 1)
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "a model that is not there": ("digit", {"input": DIGIT}, "unknown model"),
    "a name of an input": ("digits", {"images": DIGIT}, "images"),
    "no input": ("digits", {}, "expected 1 inputs"),
    "a type": ("digits", {"input": DIGIT.astype(np.float16)}, "data-type"),
    "a rank": ("digits", {"input": DIGIT[0]}, "unexpected shape"),
    "a size": ("digits", {"input": DIGIT[..., 1:]}, "unexpected shape"),
    "a batch": ("digits", {"input": images("digits", MAX_BATCH + 1)}, "batch-size"),
    "text for an image": ("shapes_images", {"image": np.array([[b"text"]], object)}, "begins with"),
    "nothing for an image": ("pixels_images", {"image": np.array([[b""]], object)}, "empty file"),
    "half of an image": (
        "digits_images",
        {"image": np.array([[PICTURES[0].read_bytes()[:999]]], object)},
        "cannot be read as an image",
    ),
    "a size outside of the profile": (
        "kinds",
        {"numbers": np.zeros((1, 10), np.int32), "flags": np.zeros((1, 10), bool),
         "halves": np.zeros((1, 10), np.float16), "levels": np.zeros((1, 10), np.uint8)},
        "outside every profile",
    ),
    "inputs that do not agree": (
        "kinds",
        {"numbers": np.zeros((1, 5), np.int32), "flags": np.zeros((1, 4), bool),
         "halves": np.zeros((1, 5), np.float16), "levels": np.zeros((1, 5), np.uint8)},
        "axis T",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_gets_an_error_and_the_server_lives(
    client: Client, server: Server, what: str
) -> None:
    model, arrays, words = WRONG[what]
    with pytest.raises(InferenceServerException, match=words):
        client.ask(model, arrays)
    assert server.is_ready
    assert client.ask("digits", {"input": DIGIT})["logits"].shape == (1, 10)


def test_a_body_that_is_no_request_gets_an_error(server: Server) -> None:
    url = f"http://{server.http}/v2/models/digits/infer"
    with pytest.raises(urllib.error.HTTPError, match=r"HTTP Error [45]"):
        urllib.request.urlopen(url, data=b'{"inputs": [}')
    assert server.is_ready


def test_one_wrong_image_harms_no_other_request(server: Server) -> None:
    contents = [PICTURES[0].read_bytes(), b"text"] * 4

    def ask(content: bytes) -> str:
        made = client_of(server, "grpc")
        try:
            image = {"image": np.array([[content]], object)}
            return str(made.ask("digits_images", image)["classes"].shape)
        except InferenceServerException as error:
            return error.message()
        finally:
            made.close()

    with ThreadPoolExecutor(len(contents)) as pool:
        answers = list(pool.map(ask, contents))
    assert answers[::2] == ["(1, 5)"] * 4
    assert all("cannot be read as an image" in answer for answer in answers[1::2])


def test_calls_are_among_the_metrics_of_the_server(server: Server) -> None:
    def value(start: str) -> float:
        return sum(float(line.split()[-1]) for line in server.metric_lines()
                   if line.startswith(start))  # fmt: skip

    client = client_of(server, "grpc")
    of = '{model="digits",version="1"}'
    before = value(f"trtnet_session_rows_total{of}")
    client.ask("digits", {"input": images("digits", 3)})
    assert value(f"trtnet_session_rows_total{of}") == before + 3
    calls = value(f"trtnet_session_calls_total{of}")
    assert value('trtnet_session_latency_seconds_bucket{le="+Inf",model="digits"') == calls > 0
    assert value(f"trtnet_session_latency_seconds_sum{of}") > 0
    kinds = WRONG["a size outside of the profile"][1]
    for _ in range(4):  # whichever of the two instances answers
        with pytest.raises(InferenceServerException):
            client.ask("kinds", kinds)
    failed = 'trtnet_session_failures_total{kind="ShapeError",model="kinds",version="1"}'
    assert value(failed) >= 4


def test_the_page_about_serving_asks_this_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "serving.md").read_text()
    (code,) = re.findall(
        r"^<!-- against a server -->\n```\n(.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    assert "localhost:8001" in code
    exec(compile(code.replace("localhost:8001", server.grpc), "serving.md", "exec"), {})
    assert "b'triangle'" in capsys.readouterr().out


def test_configurations_are_what_the_client_of_nvidia_parses(
    repository: Path, tmp_path: Path
) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    files = sorted(repository.glob("*/config.pbtxt"))
    ensembles = (*MODELS, "outlines")
    assert len(files) == 4 * len(ensembles) + 1
    for file in files:
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        assert config.name == file.parent.name
        assert config.max_batch_size == MAX_BATCH
    about = {**of_kinds().sidecar, "backend": {"name": "tensorrt", "version": "10.13"}}
    about["profiles"] = about["profiles"] * 2
    plan = trtnet.Plan(b"a plan, which is not read", about)
    export(plan, tmp_path, Settings("net", instances=3), plans={"8.9": plan})
    text = (tmp_path / "net" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.backend, [*config.instance_group[0].profile]) == ("tensorrt", ["0", "1"])
    assert dict(config.cc_model_filenames) == {"8.9": "model-8.9.plan"}
    assert [each.batch_size for each in config.model_warmup] == [1, MAX_BATCH]
