"""Running engines: sessions, and the backends behind them."""
