"""The networks of the cases, by what their layers do; :mod:`.lab` defines them."""
