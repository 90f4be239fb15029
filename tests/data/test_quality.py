"""What quality.json tells of the images' sizes."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from landuse.config.schema import DataConfig, SyntheticConfig
from landuse.data.pack import Pack, make
from landuse.data.quality import commonest_side


def sizes(*rows: tuple[int, int, int]) -> list[dict[str, int]]:
    return [{"width": width, "height": height, "images": images} for width, height, images in rows]


@pytest.mark.parametrize(
    ("found", "side"),
    [
        (sizes((256, 256, 3)), 256),
        (sizes((256, 256, 3), (300, 200, 2), (200, 500, 2)), 200),  # 4 of 7, in two forms
        (sizes((64, 64, 5), (128, 128, 5), (32, 32, 4)), 128),  # of several the largest
    ],
)
def test_the_commonest_shorter_side(found: list[dict[str, int]], side: int) -> None:
    assert commonest_side(found) == side
    assert commonest_side(found[::-1]) == side


@pytest.fixture
def pack(image_folder: Path, tmp_path: Path) -> Pack:
    """Of 60 images of 16 px, of which most were made 40 x 30 and one is none."""
    root = shutil.copytree(image_folder, tmp_path / "images")
    for path in sorted(root.glob("*/*.png"))[:35]:
        with Image.open(path) as image:
            image.resize((40, 30)).save(path)
    sorted(root.glob("*/*.png"))[-1].write_bytes(b"no image")
    return make(DataConfig(name="f", source="folder", root=str(root), home=str(tmp_path / "home"), image_size=8))


def test_a_pack_knows_the_side_of_its_files(pack: Pack) -> None:
    assert (pack.image_size, pack.tile_size) == (8, 30)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sizes": []}', '{"sizes": [{"width": "a", "height": "b", "images": 1}]}']
)
def test_a_pack_that_does_not_tell(pack: Pack, content: str) -> None:
    (pack.folder / "quality.json").write_text(content)
    assert pack.tile_size is None


def test_what_is_drawn_has_the_size_it_is_packed_at(tmp_path: Path) -> None:
    pack = make(DataConfig(home=str(tmp_path), image_size=16, synthetic=SyntheticConfig(images_per_class=5)))
    assert pack.tile_size == 16
