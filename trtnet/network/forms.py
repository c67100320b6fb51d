"""The forms that a network takes plugins in, and who suppresses boxes in it."""

FORMS = ("auto", "native", "kernel")
NATIVE = "native"
NMS = (NATIVE, "layer", "plugin")
