"""A real Triton Inference Server on a machine without a GPU: its environment, start and end.

    python tools/triton_server.py FOLDER

makes the environment in FOLDER (about 225 MB): the server that the wheel ``nvidia-pytriton``
carries, with its Python backend, and a virtual environment with numpy below version 2, which that
backend needs. All other packages, trtnet among them, are those of the Python that runs this
program: its folder of packages follows that of the environment on the path.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("nvidia-pytriton>=0.7.0,<0.8", "numpy>=1.24,<2")
_PACKAGE = "pytriton/tritonserver"  # of nvidia-pytriton
_EXECUTABLE = 0o755
_START_SECONDS, _STOP_SECONDS = 300.0, 20.0
_ATTEMPTS = 3  # another process may take a port that was free


def make_environment(folder: Path) -> None:
    """Makes the environment of the server in `folder`, which is new."""
    venv.create(folder / "python", symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "python")}))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*command, *PACKAGES], check=True)
    server, backend = site / _PACKAGE, folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, backend)
    for program in (backend / stub.name, server / "bin" / "tritonserver"):
        program.chmod(_EXECUTABLE)
    ours = sysconfig.get_path("purelib")
    (site / "ours.pth").write_text(f"{ROOT}\nimport site; site.addsitedir({ours!r})\n")


@dataclass(frozen=True)
class Server:
    """A server that answers on the loopback interface.

    Attributes:
        http, grpc, metrics: addresses, such as ``"127.0.0.1:8000"``.
        process: of the server, whose models are processes of its own.
        log: what it prints.
    """

    http: str
    grpc: str
    metrics: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_ready(self) -> bool:
        """Whether all its models can be asked."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5) as answer:
                return int(answer.status) == 200
        except (OSError, urllib.error.URLError):
            return False

    def metric_lines(self) -> list[str]:
        """What it reports to Prometheus."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        return lines


def python_of(environment: Path) -> Path:
    """The Python of an environment that :func:`make_environment` has made."""
    return environment / "python" / "bin" / "python3"


@contextlib.contextmanager
def serve(
    environment: Path, repository: Path, log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server of the models in `repository`, which ends with the context.

    Args:
        environment: of :func:`make_environment`.
        repository: its models.
        log: the file that gets what the server prints.
        variables: further ones of its environment.

    Raises:
        RuntimeError: it does not become ready; with the end of what it printed.
    """
    server = None
    for attempt in range(_ATTEMPTS):
        server = _start(environment, repository, log, variables or {})
        if _wait(server):
            break
        _stop(server.process)
        text = log.read_text(errors="replace")
        if "already in use" not in text or attempt == _ATTEMPTS - 1:
            raise RuntimeError(f"the server does not start:\n{text[-4000:]}")
    assert server is not None
    try:
        yield server
    finally:
        _stop(server.process)


def _start(environment: Path, repository: Path, log: Path, variables: Mapping[str, str]) -> Server:
    http, grpc, metrics = _free_ports(3)
    binaries = python_of(environment).parent
    (site,) = binaries.parent.glob("lib/python*/site-packages")
    local = "127.0.0.1"
    command = [
        str(site / _PACKAGE / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={environment / 'backends'}",
        *(f"--{what}-address={local}" for what in ("http", "grpc", "metrics")),
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        "--exit-timeout-secs=5",
    ]
    around = {**os.environ, **variables}
    around["PATH"] = f"{binaries}{os.pathsep}{around.get('PATH', '')}"  # its python3 is embedded
    libraries = sysconfig.get_config_var("LIBDIR"), site / "nvidia_pytriton.libs"  # libpython first
    around["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    around.pop("PYTHONPATH", None)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=around, stdout=file, stderr=file, start_new_session=True
        )
    return Server(
        f"{local}:{http}", f"{local}:{grpc}", f"{local}:{metrics}", process=process, log=log
    )


def _wait(server: Server) -> bool:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        if server.is_ready:
            return True
        time.sleep(0.2)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server and the processes of its models, which are in its session."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="is made")
    make_environment(parser.parse_args().folder)
