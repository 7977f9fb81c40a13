"""The Trainer's room: drives the engine through batches, step by step, and offers snapshots to be committed."""
