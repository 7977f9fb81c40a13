"""One module for each command; ``tools.cli`` imports a module only when its command is typed."""
