"""Views of the recorded trace: each turns records into something a person or another tool reads."""
