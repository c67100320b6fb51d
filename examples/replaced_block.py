"""A block of ResNet-18 without its convolutions: what changes in the network, and what it saves."""

import numpy as np

import trtnet
from trtnet import nn, pipeline

model = pipeline.load_model(pipeline.Recipe("resnet18", weights="random", image_size=64))
theirs = pipeline.torch_model(model.entry, model.module, model.arguments)
before = trtnet.study(model.define(trtnet.Policy("fp16")), gpu="h200").rows(depth=2)
model.module.set_submodule("layer3.1", nn.Hardswish())
network = model.define(trtnet.Policy("fp32"))
noise = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
print(trtnet.verify(network, theirs, {"input": noise}))
after = trtnet.study(model.define(trtnet.Policy("fp16")), gpu="h200").rows(depth=2)
times = {(row["module"], row["op"]): row["bound_s"] for row in after}
for row in before:
    print(row["module"], row["op"], row["bound_s"], times.get((row["module"], row["op"])))
