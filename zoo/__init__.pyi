"""Models built with ``trtnet.nn``; see ``__init__.py``."""

from .cards import Card as Card
from .cards import card as card
from .entry import Entry as Entry
from .registry import get_entry as get_entry
from .registry import get_model as get_model
from .registry import list_models as list_models
from .registry import register as register
