"""The StatusReporter: what the daemon is doing, for people and programs."""
