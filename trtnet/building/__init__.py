"""From a filled network to an engine: options, profiles, plans, recipes."""
