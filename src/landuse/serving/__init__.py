"""The service: an exported model behind HTTP. Knows no torch, so that what serves a model needs none."""
