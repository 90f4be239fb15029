"""The data report, through the door that writes it."""

import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def test_report_shows_what_was_found(command, image_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(image_folder, tmp_path / "images")
    (root / "roof").rename(root / "roof <b>&")
    original = Image.open(root / "roof <b>&" / "roof000.png")
    original.transpose(Image.Transpose.ROTATE_90).save(root / "roof <b>&" / "turned.png")
    original.convert("L").resize((20, 30)).save(root / "roof <b>&" / "grey.png")
    (root / "water" / "empty.png").write_bytes(b"")
    lists = tmp_path / "lists"
    lists.mkdir()
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    for i, name in enumerate(("train", "val", "test")):
        part = [
            path for n, path in enumerate(names) if (2 if "turned" in path else 0 if "roof000" in path else n % 3) == i
        ]
        (lists / f"{name}.csv").write_text("".join(f"{path},{path.partition('/')[0]}\n" for path in part))
    data = ["data=folder", f"data.root={root}", "data.home=data", "data.image_size=16", f"data.split.files={lists}"]
    done = command("preprocess", *data, "data.quality.on_corrupt=skip")
    assert done.status == 0, done.err

    (folder,) = (tmp_path / "data" / "reports").iterdir()
    page = (folder / "report.html").read_text()
    assert f"{folder.relative_to(tmp_path)}/report.html" in done.err
    images = {path.name for path in folder.glob("*.png")}
    assert images == {"classes.png", "sizes.png", "duplicates.png", *(f"class-{i:03d}.png" for i in range(3))}
    for name in images:
        assert np.asarray(Image.open(folder / name)).std() > 5
    assert page.count('src="data:image/png;base64,') == len(images)
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # self-contained
    assert "roof <b>&" not in page and "roof &lt;b&gt;&amp;" in page
    for text in ("water/empty.png", "the file is empty", "turned.png", "not square, centre cut"):
        assert text in page, text
    assert re.search(r"1 of \d+ test images show what an image of an earlier split shows", page)
    written = (folder / "report.html").stat().st_mtime_ns
    assert command("preprocess", *data, "data.quality.on_corrupt=skip").status == 0
    assert (folder / "report.html").stat().st_mtime_ns == written
