"""The list of names is torchvision's own."""

import torchvision

from landuse.models.names import TORCHVISION_CLASSIFIERS


def test_names_are_all_classifiers_of_torchvision() -> None:
    assert list(TORCHVISION_CLASSIFIERS) == torchvision.models.list_models(module=torchvision.models)
