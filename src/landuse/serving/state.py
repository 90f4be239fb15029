"""What the metrics say of the moment at which they are asked."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from landuse.serving.metrics import gauge

if TYPE_CHECKING:
    from landuse.serving.service import Service


def state(service: "Service") -> Iterator[Metric]:
    """Model, queue and drift."""
    yield gauge("model_info", "The model in service.", 1, service.identity(service.lanes.loaded))
    yield gauge("queue_images", "Images that wait.", service.lanes.num_waiting)
    drift = service.drift()
    differs = "1: the newest images are not like those that the model was validated on."
    yield gauge("drift", differs, float(drift["state"] == "drift"))
    yield gauge("drift_window_images", "Images that this is judged by.", drift["num_images"])
