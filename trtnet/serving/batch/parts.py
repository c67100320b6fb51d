"""The folder of a run's parts: each is a Parquet file that is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtnet.errors import UsageError
from trtnet.files import atomic_write, is_full
from trtnet.reading.documents import Source, from_json
from trtnet.reading.files import read_if_present
from trtnet.serving.batch.job import Part, key_of
from trtnet.serving.batch.records import Records, arrow

_JOB, _PART, _WORKER, _TASK = b"trtnet.job", b"trtnet.part", b"trtnet.worker", b"trtnet.task"
_ROWS_AT_ONCE = 64  # that a worker keeps before it writes them
_GROUP_BYTES = 64 << 20  # of a row group of the results
_MOST_BYTES = 1 << 20  # of the description of a job
_ENDS = "delete {folder} for a run from the beginning"


class PartsFolder:
    """The parts of the run that writes `results`, in the folder ``RESULTS.parts`` beside it.

    Args:
        results: the Parquet file.
    """

    def __init__(self, results: str | os.PathLike[str]) -> None:
        self.results = Path(results)
        self.path = self.results.with_name(f"{self.results.name}.parts")

    @property
    def is_begun(self) -> bool:
        """Whether there are parts, or will be."""
        return self._about.exists()

    @property
    def _about(self) -> Path:
        return self.path / "job.json"

    def make(self, resume: bool) -> None:
        """Makes the folder.

        Raises:
            UsageError: as :meth:`begin`.
        """
        if self.is_begun and not resume:
            raise self._unfinished()
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written", got=error) from error

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def begin(self, identity: Mapping[str, Any], resume: bool) -> None:
        """Makes the folder, or takes it over.

        Args:
            identity: see :func:`trtnet.serving.batch.job.identity`.
            resume: go on with what is there.

        Raises:
            UsageError: there is a run that was not finished, and `resume` is not asked for, or it
                was another one; the folder cannot be written.
        """
        self.make(resume)
        try:
            text = read_if_present(self._about, "the description of a run", _MOST_BYTES)
            if text:
                self._require_same(text, identity)
            else:
                with atomic_write(self._about) as file:
                    file.write(json.dumps(identity, indent=1, sort_keys=True).encode())
            for left in self.path.glob("*.tries"):
                left.unlink()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written", got=error) from error

    def done(self, parts: Sequence[Part], key: str) -> set[int]:
        """The indices of those of the `parts` that are written.

        Args:
            key: of the job.
        """
        return {part.index for part in parts if self._is_written(part, key)}

    def tries(self, index: int) -> int:
        """How often a part has been begun in this run, now too: workers that were killed by what
        they did are not the reason to begin it for ever."""
        path = self._file(index).with_suffix(".tries")
        with open(path, "ab") as file:
            file.write(b".")
            return file.tell()

    @contextlib.contextmanager
    def writer(self, index: int, key: str, task: str, records: Records) -> Iterator[PartWriter]:
        """Writes the rows of a part, which is there when the block ends without an error."""
        pa = arrow()
        worker = f"{socket.gethostname()}:{os.getpid()}"
        about = {_JOB: key, _PART: str(index), _WORKER: worker, _TASK: task}
        schema = records.schema().with_metadata(about)
        with (
            atomic_write(self._file(index)) as file,
            pa.parquet.ParquetWriter(file, schema) as writer,
        ):
            made = PartWriter(writer, schema)
            yield made
            made.flush()
        with contextlib.suppress(OSError):
            self._file(index).with_suffix(".tries").unlink(missing_ok=True)

    def join(self, parts: Sequence[Part]) -> int:
        """Writes the results of all `parts`, which are there, and removes the folder. Says how many
        images failed.

        Raises:
            UsageError: they cannot be written; the parts stay.
        """
        pa, failed = arrow(), 0
        try:
            schema = pa.parquet.read_schema(self._file(0))
            kept = {k: v for k, v in schema.metadata.items() if k in (_JOB, _TASK)}
            schema = schema.with_metadata(kept)
            with (
                atomic_write(self.results) as file,
                pa.parquet.ParquetWriter(file, schema) as writer,
            ):
                for table in self._groups(parts):
                    writer.write_table(table.replace_schema_metadata(kept))
                    failed += len(table) - table["error"].null_count
        except OSError as error:
            fix = "free room on the disk" if is_full(error) else "see to that it can be written"
            fix += ", and go on with --resume (resume=True)"
            raise UsageError(f"{self.results} cannot be written", got=error, fix=fix) from error
        self.remove()
        return failed

    def _groups(self, parts: Sequence[Part]) -> Iterator[Any]:
        """Tables of the parts in order, of about :data:`_GROUP_BYTES` each."""
        pa = arrow()
        held: list[Any] = []
        for part in parts:
            held.append(pa.parquet.read_table(self._file(part.index)))
            if sum(table.nbytes for table in held) >= _GROUP_BYTES:
                yield pa.concat_tables(held)
                held = []
        if held:
            yield pa.concat_tables(held)

    def _file(self, index: int) -> Path:
        return self.path / f"part-{index:08d}.parquet"

    def _is_written(self, part: Part, key: str) -> bool:
        path = self._file(part.index)
        if not path.is_file():
            return False
        pa = arrow()
        try:
            about = pa.parquet.read_metadata(path)
        except (OSError, pa.ArrowException):
            return False
        stated = about.metadata or {}
        is_same = stated.get(_JOB) == key.encode() and stated.get(_PART) == b"%d" % part.index
        return is_same and about.num_rows == len(part.names)

    def _unfinished(self) -> UsageError:
        return UsageError(
            f"{self.path} has the parts of a run that was not finished",
            fix=f"go on with it: --resume (resume=True); or {_ENDS.format(folder=self.path)}",
        )

    def _require_same(self, text: bytes, identity: Mapping[str, Any]) -> None:
        fix = f"name other results, or {_ENDS.format(folder=self.path)}"
        found = from_json(text, Source(str(self.path / "job.json"), "the description", fix=fix))
        was = found if isinstance(found, dict) else {}
        same = json.loads(json.dumps(identity))
        differing = [name for name, value in same.items() if was.get(name) != value]
        if differing:
            raise UsageError(
                f"{self.path} has the parts of another run: other {', '.join(differing)}", fix=fix
            )


class PartWriter:
    """Takes the rows of a part one by one."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """One image's cells, by column; those that are missing are null."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hands the rows over that are kept."""
        if self._rows:
            self._writer.write_table(_table(self._rows, self._schema))
            self._rows = []


def is_finished(results: Path, identity: Mapping[str, Any]) -> bool:
    """Whether `results` are those of a run with this identity."""
    if not results.is_file():
        return False
    pa = arrow()
    try:
        stated = pa.parquet.read_metadata(results).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return bool(stated.get(_JOB) == key_of(identity).encode())


def _table(rows: Iterable[Mapping[str, Any]], schema: Any) -> Any:
    pa = arrow()
    kept = list(rows)
    columns = [pa.array([row.get(f.name) for row in kept], f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)
