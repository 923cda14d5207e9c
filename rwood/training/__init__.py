"""The only training loop, its checkpoints, and the small door to whoever runs it."""
