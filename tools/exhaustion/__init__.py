"""Short protocols exhausted, not sampled: every fault at every point, every disk that a power cut could leave."""
