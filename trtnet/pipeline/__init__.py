"""From a model to a verified engine: define, calibrate, verify, build, report.

:func:`run` does all of it, as ``python -m trtnet.zoo`` does:

>>> import tempfile
>>> from pathlib import Path
>>> from trtnet import pipeline
>>> folder = tempfile.TemporaryDirectory()
>>> engine = Path(folder.name) / "lenet5.engine"
>>> recipe = pipeline.Recipe("lenet5", "fp16", backend="rtx", batch=2, engine=engine)
>>> result = pipeline.run(recipe)
>>> result.passed, result.report["network"]["macs"]
(True, 833040)
>>> result.plan.sidecar["inputs"]
[{'name': 'input', 'dtype': 'float32', 'shape': [2, 1, 32, 32]}]
>>> result.report["engine"]["bytes"] == engine.stat().st_size
True
>>> pipeline.run(recipe).report["engine"]["reused"]
True
>>> folder.cleanup()

The steps are there one by one: :func:`load_model` gives a model with weights, whose ``define``
makes networks of any precision; :class:`Calibrator` finds ranges; :class:`DefinedModel` verifies;
:func:`find_target` also opens saved graphs; :func:`open_image_session` builds for images;
:func:`set_up_search` prepares :mod:`trtnet.search`; :func:`abilities` tells what this machine can
build and run.

Names are imported on first use, so that ``import trtnet.pipeline`` loads neither torch nor
TensorRT.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
