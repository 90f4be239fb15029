"""Land-use classification in aerial and satellite images."""

import os

# onnxruntime's builds of 2026 keep an identifier of the machine in the home and tell Microsoft of their use, unless
# this is said before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
