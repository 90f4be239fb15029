"""What a run leaves behind and shows: metrics.jsonl, console, log files, provenance, W&B."""
