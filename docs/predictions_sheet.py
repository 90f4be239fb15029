"""Draw docs/images/predictions.jpg, test scenes with what a model says of each: python docs/predictions_sheet.py RUN

RUN is the folder of a training on the embedded dataset that was evaluated. Of each class the first test image is shown,
right or wrong, and then further ones that are wrong: nothing is chosen for its looks.
"""

import csv
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from landuse.data.synthetic import CLASSES, draw_scene

SCENE, LABEL, GAP, COLUMNS, ROWS = 160, 40, 6, 7, 4  # pixels, pixels, pixels, scenes a row, rows
RIGHT, WRONG = "#00796b", "#c62828"


def chosen(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The first test image of each class, then the mistakes with the highest confidence."""
    first = [next(row for row in rows if row["label"] == name) for name in CLASSES]
    mistakes = [row for row in rows if row["label"] != row["prediction"] and row not in first]
    mistakes.sort(key=lambda row: float(row["confidence"]), reverse=True)
    return first + mistakes[: COLUMNS * ROWS - len(first)]


def sheet(rows: list[dict[str, str]], seed: int = 0) -> Image.Image:
    """The scenes with prediction and confidence; where it is wrong, the truth below."""
    image = Image.new("RGB", (COLUMNS * (SCENE + GAP) - GAP, ROWS * (SCENE + LABEL)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for i, row in enumerate(rows):
        name, _, file = row["path"].partition("/")
        left, top = i % COLUMNS * (SCENE + GAP), i // COLUMNS * (SCENE + LABEL)
        scene = draw_scene(name, seed, int(Path(file).stem[len(name) :]), SCENE)
        image.paste(Image.fromarray(scene), (left, top))
        is_right = row["label"] == row["prediction"]
        text = f"{row['prediction']} {float(row['confidence']):.0%}"
        draw.text((left + 2, top + SCENE + 1), text, fill=RIGHT if is_right else WRONG, font=font)
        if not is_right:
            draw.text((left + 2, top + SCENE + 18), f"is {row['label']}", fill="#555555", font=font)
    return image


if __name__ == "__main__":
    target = Path(__file__).parent / "images" / "predictions.jpg"
    with (Path(sys.argv[1]) / "predictions.csv").open(encoding="utf-8", newline="") as file:
        sheet(chosen(list(csv.DictReader(file)))).save(target, quality=82, optimize=True)
    print(target)
