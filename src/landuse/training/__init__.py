"""The training loop and its parts. Knows nothing of Hydra, W&B or the command line."""
