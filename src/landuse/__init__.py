"""Land-use classification in aerial and satellite images."""
