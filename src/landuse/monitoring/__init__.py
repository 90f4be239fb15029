"""Whether images are still like those that a model was validated on: statistics, tests, corruptions. Without torch."""
