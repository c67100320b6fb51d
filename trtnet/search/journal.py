"""A search's journal: each result as soon as it is measured, so that a killed search goes on."""

from __future__ import annotations

from trtnet.journal import ResultJournal


class SearchJournal(ResultJournal):
    """The results of ``trtnet search`` and ``trtnet sensitivity``; its job is that of
    :func:`trtnet.search.sensitivities.job`."""

    format = "trtnet.search-journal 1"
    what = "a search"
    another = "another search"
