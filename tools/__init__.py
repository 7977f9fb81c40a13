"""What a person runs: the command line, the daemon's launch, views of the trace, and the checks."""
