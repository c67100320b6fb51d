"""The forms that a network takes plugins in."""

FORMS = ("auto", "native", "kernel")
