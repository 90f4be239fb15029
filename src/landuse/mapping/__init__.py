"""Land-use maps of large scenes, made of what a classifier says of their tiles."""
