"""``trtnet SUBCOMMAND``."""

from __future__ import annotations

import pytest

import trtnet
from trtnet.cli.main import main


def test_subcommands_are_the_same_programs(capsys: pytest.CaptureFixture) -> None:
    assert main(["zoo", "--list", "lenet*"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("lenet5 ")
    assert main(["weights", "inspect", "nothing.safetensors"]) == 1
    assert "nothing.safetensors does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_the_subcommands(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "zoo" in text
    assert "weights" in text


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trtnet {trtnet.__version__}\n"


def test_an_unknown_subcommand(capsys: pytest.CaptureFixture) -> None:
    assert main(["bild"]) == 2
    assert "no subcommand 'bild'" in capsys.readouterr().err
