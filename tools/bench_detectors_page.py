"""The page of the rows of ``tools/bench_detectors.py``; nothing in it is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench_zoo_page import LEAST_FOUND, SESSION, Row, in_words, whole

AIM = 1.0  # below it a session is slower than PyTorch's best

HEAD = """\
# Detectors in sessions of the torch backend

Made of the rows of `{rows}` by `python tools/bench_detectors.py --page`. Each row is of a run of
that tool on a GPU that nothing else used. Where a model was measured again, its last row counts.

Time is that from images on the GPU to the boxes of each: for the session, float32 images to outputs
of fixed size, suppression included; for PyTorch, images in its own type to a list of boxes, or to
places of fixed number. Both sides have the same weights: seeded, with heads that find something,
and for `yolox_shapes` those that ship. The images are drawn. The threshold of a YOLO is such that
about 100 boxes of an image pass it; RT-DETR gives its 300 best. Candidates take turns in one
process, in an order drawn anew each round; a sample is one or more executions, at least a
millisecond, between two CUDA events. **Ratio**: a way's time by the session's in the same round,
its median and, in brackets, the 95 % interval of that median; above 1 the session is faster.

PyTorch's ways of YOLO and RT-DETR are the counterpart in FP16 and channels_last, BatchNorms folded
into convolutions, boxes decoded and scores made in FP32, as one CUDA graph: `eager`, or by
`torch.compile` in its default mode or with max-autotune (without its own CUDA graphs);
`cudnn.benchmark`: cuDNN chose its kernels by timing. After it:

* `batched_nms of each image`: the candidates above the threshold are picked and given to
  torchvision's `batched_nms`, image by image, outside of the graph, for the data decide on sizes;
* `one batched_nms`: the same once for all images;
* `suppression of N in the graph`: the N best candidates of an image, the matrix of their overlaps,
  and the rule of suppression applied 12 times, in PyTorch, compiled too; checked to be final;
* `top-k in the graph` (RT-DETR, transformers' model): scores, top-k and corners.

torchvision's detectors get one image that their transform neither resizes nor pads; the session
gets it prepared. `.half()`: model and image in FP16; `autocast`: the model in FP32 under
`torch.autocast`; `torch.compile`: backbone, pyramid and the heads that see whole feature maps are
one CUDA graph, in FP16, and the rest is called as it is.

*Found*: of the boxes that PyTorch finds in FP32, in the first four images, the share that has a box
of the same class with an IoU of at least 0.9. Of YOLO these are boxes with a score 5 % above the
threshold, of RT-DETR the 50 best of the first image and those of others with such scores, else
boxes with a score of at least 0.1.
A way that finds less than 95 % of what the best of PyTorch's ways finds is not compared with.
Seeded weights round worse than trained ones. *Set-up*: seconds until the first results, weights
brought to the GPU; in parentheses with Inductor's cache empty, while others were compiled too (else
the cache is filled). *Peak*: MiB of GPU memory taken at most while it was set up and run.
"""


def page(rows: Sequence[Row], name: str) -> str:
    """The whole page. `name`: the file of the rows."""
    return whole(rows, HEAD.format(rows=name), section)


def section(rows: Sequence[Row], precision: str, batch: int) -> str:
    """The table of one precision and batch."""
    found = [f"### {precision}, batch {batch}\n", in_words(rows, AIM), ""]
    measured = [line for row in rows for line in lines(row)]
    if measured:
        found += [
            "| model, size | what | time | ratio | found | set-up | peak |",
            "|---|---|--:|--:|--:|--:|--:|",
            *measured,
            "",
        ]
    found += [f"* {note}" for row in rows for note in notes(row)]
    return "\n".join(found) + "\n"


def lines(row: Row) -> Iterable[str]:
    """The lines of one model: the session, and PyTorch's ways, the fastest first and marked."""
    measured = [one for one in row["candidates"] if "median_ms" in one]
    for one in sorted(measured, key=lambda one: (one["name"] != SESSION, one["median_ms"])):
        ratio, memory = one.get("ratio"), one.get("memory_mib")
        mark = "**" if one["name"] in (SESSION, row["best_peer"]) else ""
        cold = f" ({one['cold_setup_s']:.0f} s)" if "cold_setup_s" in one else ""
        height, width = row["shape"][2:]
        cells = [
            f"{row['model']}, {height}x{width}",
            f"{mark}{one['name']}{mark}",
            f"{one['median_ms']:.3f} ms",
            f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "",
            f"{one['matched']:.1%} of {sum(row['boxes'])}",
            f"{one['setup_s']:.1f} s{cold}",
            f"{memory['peak']:,.0f}" if memory else "-",
        ]
        yield f"| {' | '.join(cells)} |"


def notes(row: Row) -> Iterable[str]:
    """What a reader of the table has to know of a row besides."""
    if row.get("failed"):
        yield f"{row['model']} was not measured: {row['failed']}"
    for one in row["candidates"]:
        if "reason" in one:
            yield f"{row['model']}: no {one['name']}: {one['reason']}"
        if "not_captured" in one:
            yield f"{row['model']}: {one['name']} runs without a CUDA graph: {one['not_captured']}"
    shares = {one["name"]: one["matched"] for one in row["candidates"] if "matched" in one}
    own, most = shares.pop(SESSION, 1.0), max(shares.values(), default=0.0)
    if own < LEAST_FOUND * most:
        yield (
            f"**{row['model']}: the session finds {own:.1%}, PyTorch in this precision {most:.1%}**"
        )
