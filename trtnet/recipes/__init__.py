"""Recipes: how each weight of an engine comes from the keys of a state_dict.

A network keeps a :class:`trtnet.recipes.ledger.Ledger`. It knows where the values of each key lie
in memory, so a weight that lies there too is a view of that key, and what is computed of keys is
computed by :data:`trtnet.recipes.operations.OPERATIONS`, by name, and noted. The steps that lead to
an engine's weights stand in its sidecar; :mod:`trtnet.recipes.evaluation` runs them again on
another state_dict, with the same functions, so that the result has the bits of a new build.
"""
