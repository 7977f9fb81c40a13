"""A plug-in that serves what was learnt: see ``actors.vllm_reloader.actor``."""
