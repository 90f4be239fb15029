"""What download writes down for pipelines."""

import json
import shutil
from pathlib import Path

from PIL import Image


def test_the_manifest_tells_whether_files_of_the_users_own_have_changed(
    command, image_folder: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(image_folder, tmp_path / "images")
    lists, groups = tmp_path / "lists", tmp_path / "groups.csv"
    lists.mkdir()
    for name in ("train", "val", "test"):
        (lists / f"{name}.csv").write_text(f"roof/roof00{len(name)}.png,roof\n")
    groups.write_text("roof/roof001,a\n")
    seen = []

    def manifest() -> dict[str, str]:
        keys = [f"data.root={root}", "data.home=data", f"data.split.files={lists}", f"data.split.groups={groups}"]
        done = command("download", "data=folder", *keys, "data.manifest=manifest.json")
        assert done.status == 0, done.err
        seen.append((tmp_path / "manifest.json").read_text())
        return json.loads(seen[-1])

    assert set(manifest()) == {"name", "source", "checksum", "files", "groups", "folder"}
    manifest()
    assert seen[0] == seen[1]
    Image.open(root / "roof" / "roof000.png").rotate(90).save(root / "roof" / "roof000.png")
    manifest()
    (lists / "val.csv").write_text("roof/roof009.png,roof\n")
    manifest()
    groups.write_text("roof/roof002,a\n")
    manifest()
    assert len(set(seen)) == 4
