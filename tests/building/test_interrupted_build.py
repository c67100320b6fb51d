"""Interrupts during a build: TensorRT has ended when they arrive, and the network stays usable."""

from __future__ import annotations

import threading

import pytest

import trtnet
from trtnet import nn

pytestmark = pytest.mark.alone


@pytest.fixture
def network() -> trtnet.Network:
    network = trtnet.Network("rtx")
    network.output("y", nn.ReLU()(network.input("x", (2, 3))))
    return network


@pytest.mark.parametrize("interrupts", [1, 3])
def test_an_interrupt_arrives_when_tensorrt_has_ended(network, monkeypatch, interrupts):
    """Further ones while that is awaited change nothing."""
    builder = network.builder
    begun, left, events = threading.Event(), [True] * (interrupts - 1), []
    real = builder.build_serialized_network

    def build(definition, config):
        begun.set()
        while not config.progress_monitor.cancelled:
            pass
        events.append("ended")
        return real(definition, config)

    class Builder:
        build_serialized_network = staticmethod(build)

        def __getattr__(self, name):
            return getattr(builder, name)

    from trtnet.building import builder as building

    original = building.Job.wait

    def wait(self, seconds=1.0):
        if begun.is_set() and left and left.pop():
            raise KeyboardInterrupt
        return original(self, seconds)

    def progress(phase: str) -> None:
        begun.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "builder", Builder(), raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(building.Job, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            trtnet.build(network, progress=progress)
        events.append("interrupted")
    assert events == ["ended", "interrupted"]
    monkeypatch.undo()
    assert trtnet.build(network).engine
