"""Building: from a network to an engine, with its options, profiles, recipe and plan."""
