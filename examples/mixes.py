"""MobileNetV2 and ConvNeXt between INT8 and FP16: what a mix saves, and which modules harm it."""

import sys

import trtnet
from trtnet import pipeline, search

for model in sys.argv[1:] or ["mobilenet_v2", "convnext_tiny"]:
    recipe = pipeline.Recipe(model, weights="random", image_size=32, batch=4)
    setup = pipeline.set_up_search(recipe, pipeline.SearchSettings("random", items=4, gpu="h200"))
    found = search.search(setup.subject, setup.data, "sqnr>=24dB", margin=1)
    print(model, found, sep=": ")
    study = trtnet.study(found, gpu="h200")
    rows = [row for row in study.rows(depth=9) if row["benefit"] is not None]
    for row in sorted(rows, key=lambda row: -row["error2_marginal"])[:5]:
        print({key: row[key] for key in ("module", "bound_s", "saved_s", "error2_alone",
                                         "error2_marginal", "reason")})  # fmt: skip
