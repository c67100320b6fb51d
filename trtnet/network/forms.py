"""The forms that a network takes plugins in, and who suppresses boxes in it."""

from trtnet.errors import UsageError

FORMS = ("auto", "native", "kernel")
NATIVE = "native"
NMS = (NATIVE, "layer", "plugin")


def check_forms(plugins: str, nms: str) -> None:
    """Raises UsageError for a form of plugins, or of suppression, that there is not."""
    if plugins not in FORMS:
        raise UsageError(f"no form of plugins {plugins!r}", expected=", ".join(FORMS))
    if nms not in NMS:
        raise UsageError(f"no form of suppression {nms!r}", expected=", ".join(NMS))
