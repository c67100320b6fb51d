"""``trtnet certify``: runs every layer type on this machine and writes what it computes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trtnet.backend import choices
from trtnet.certify.cases import PRECISIONS
from trtnet.certify.certificate import load, passed, save, summary
from trtnet.certify.making import CASE_SECONDS, certify, finished
from trtnet.cli.flags import Group, Parser, real
from trtnet.cli.paths import input_file, journal_file, output_file, word
from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream
from trtnet.cli.streams import say
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Use, require_distinct, require_writable

_LONGEST_SECONDS = 86400.0
_FOR_MAKING = {
    "-o": "output",
    "--journal": "journal",
    "--only": "only",
    "--precision": "precision",
    "--skip-bench": "skip_bench",
    "--case-limit": "case_limit",
    "--backend": "backend",
    "--device": "device",
}
"""Flags that only the making of a certificate takes, with their arguments."""


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(certify_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Makes a certificate, or checks one.

    Raises:
        UsageError: neither ``-o`` nor ``--check`` is given, arguments that ``--check`` does not
            take, one place for two files, or one that cannot be written.
    """
    if arguments.check is not None:
        return _check(arguments)
    if arguments.output is None:
        raise UsageError("there is nothing to do", expected="-o CERTIFICATE.json, or --check FILE",
                         fix="trtnet certify -o certificate.json")  # fmt: skip
    page = arguments.html or arguments.output.with_suffix(".html")
    journal = arguments.journal or Path(f"{arguments.output}.journal")
    _require_places(arguments.output, page, journal)
    found = certify(
        backend=arguments.backend,
        device=arguments.device,
        only=arguments.only,
        precisions=arguments.precision,
        timed=not arguments.skip_bench,
        seconds=arguments.case_limit,
        journal=journal,
        observer=Progress(human_stream()),
    )
    _write_page(found, page)
    save(found, arguments.output)
    finished(journal)
    say("", *summary(found), f"written to {arguments.output} and {page}")
    return 0 if passed(found) else 1


def _require_places(output: Path, page: Path, journal: Path) -> None:
    """The parser checks places that are arguments; some are made of others."""
    files = (
        NamedFile("-o", output, Use.WRITE, "the certificate"),
        NamedFile("--html", page, Use.WRITE, "the page"),
        NamedFile("--journal", journal, Use.WRITE, "the journal"),
    )
    require_distinct(files)
    require_writable(files)


def _check(arguments: argparse.Namespace) -> int:
    unused = [flag for flag, name in _FOR_MAKING.items()
              if getattr(arguments, name) != certify_parser().get_default(name)]  # fmt: skip
    if unused:
        raise UsageError("--check makes no certificate", expected="--check FILE, with or without "
                         "--html PAGE", got=", ".join(unused), fix="leave them out")  # fmt: skip
    found = load(arguments.check)
    say(*summary(found), f"SHA-256      {found.sha256}: the content is unchanged")
    if arguments.html is not None:
        _write_page(found, arguments.html)
        say(f"written to {arguments.html}")
    return 0 if passed(found) else 1


def certify_parser() -> Parser:
    """The parser of ``trtnet certify``."""
    made = Parser(
        prog="trtnet certify",
        description="Builds networks that together use every layer type, in every precision, runs "
        "them on this machine, compares each tensor with the reference, times models, and writes "
        "one JSON file and a page of it.",
        epilog="Exit status: 0, every case was executed and passed, but for those that do not "
        "exist here; 1, a case differs, failed, was refused by the builder, or was only built; 2, "
        "wrong usage.",
        allow_abbrev=False,
    )
    output = Group(made, "certificate")
    output("-o", dest="output", type=output_file, metavar="FILE", help="the certificate: JSON")
    output("--html", type=output_file, metavar="PAGE",
           help="the page; default: beside the certificate")  # fmt: skip
    output("--check", type=input_file, metavar="FILE",
           help="check a certificate and say what it says; with --html write its page")  # fmt: skip
    output("--journal", type=journal_file, metavar="FILE",
           help="keeps results as they come, and a run that was interrupted goes on from it; "
           "default: FILE.journal, which is removed in the end")  # fmt: skip
    chosen = Group(made, "cases")
    chosen("--only", action="append", default=[], type=word, metavar="PATTERN",
           help="only cases whose name or NAME:PRECISION matches, such as 'conv*' or lenet5:fp16; "
           "may be repeated")  # fmt: skip
    chosen("--precision", action="append", default=[], choices=PRECISIONS,
           help="only these; may be repeated")  # fmt: skip
    chosen("--skip-bench", action="store_true", help="do not time the models")
    chosen("--case-limit", type=real(0.001, _LONGEST_SECONDS), default=CASE_SECONDS, metavar="S",
           help=f"seconds that a case may take; default: {CASE_SECONDS:g}")  # fmt: skip
    where = Group(made, "backend")
    where("--backend", choices=choices(), default="auto",
          help="default: the first whose engines this machine executes")  # fmt: skip
    where("--device", default="auto", type=word, metavar="D",
          help="cpu, cuda or cuda:1; default: a GPU if any")  # fmt: skip
    return made


def _write_page(found: object, page: Path) -> None:
    from trtnet.certify.page import write_page

    write_page(found, page)  # type: ignore[arg-type]
