"""Whether images are still like those that a model was validated on: statistics, tests, corruptions. Without torch."""

REFERENCE_FILE = "reference.safetensors"  # the name of a reference beside a model
