"""Answers to images: a class for each task, which takes an engine or a model and is called with
images.

:class:`Classifier` says what images show, :class:`Segmenter` what their pixels show, and
:class:`Detector` where things are in them. All take files, folders, Pillow images and arrays,
prepare them as the weights ask for, and give results with names. With weights that trtnet ships:

>>> import numpy, trtnet
>>> digit = numpy.zeros((8, 8), "uint8")
>>> digit[1:7, 4] = 255  # a vertical stroke
>>> with trtnet.Classifier("resnet20_digits", device="cpu") as classify:
...     print(classify(digit).name)
1

Names are imported on first use, so that ``import trtnet.tasks`` loads neither torch nor TensorRT.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
