"""The hot paths of the runtime, compiled by mypyc; nothing here is needed to run, and nothing is compiled unasked."""
