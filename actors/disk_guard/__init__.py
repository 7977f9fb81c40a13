"""The DiskGuard: the actor, and what it forecasts."""
