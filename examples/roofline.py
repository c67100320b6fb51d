"""ResNet-18 on this CPU: the layers of the code whose time is furthest above their bound."""

import trtnet
from trtnet import benchmark, pipeline

recipe = pipeline.Recipe("resnet18", "fp32", weights="random", image_size=64, backend="torch")
network = pipeline.load_model(recipe).define(recipe.policy)
with trtnet.Session(trtnet.build(network)) as session:
    profile = benchmark.profile(session, iterations=20)
print(f"noise: {benchmark.noise(profile):.0%}")
study = trtnet.study(network, gpu=benchmark.measure_ceilings("cpu"), profile=profile)
print(study)
for row in sorted(study.rows(depth=3), key=lambda row: -(row["time_s"] or 0))[:10]:
    print({key: row[key] for key in ("module", "op", "bound_s", "limit", "time_s", "min_s", "gap",
                                     "estimated")})  # fmt: skip
