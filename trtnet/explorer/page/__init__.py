"""The page of the explorer: its template, style, scripts and libraries, and what joins them."""
