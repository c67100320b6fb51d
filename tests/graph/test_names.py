"""The public names of trtnet.graph, of which some are imported on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trtnet import analysis, graph

PROGRAM = """
import sys
import trtnet.graph
assert not {"torch", "trtnet.analysis", "trtnet.reference"} & sys.modules.keys()
assert trtnet.graph.cost.__module__ == "trtnet.analysis.costing"
"""


def test_every_public_name_exists() -> None:
    assert set(graph.__all__) <= set(dir(graph))
    assert all(getattr(graph, name) is not None for name in graph.__all__)


def test_names_of_the_analyses_are_the_same_objects() -> None:
    assert analysis.__all__
    for name in analysis.__all__:
        assert getattr(graph, name) is getattr(analysis, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'trtnet\.graph' has no attribute 'costs'"):
        graph.costs  # noqa: B018


def test_the_analyses_are_imported_on_first_use() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
