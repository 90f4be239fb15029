"""Draw docs/images/synthetic.png, one scene of each embedded class: python docs/contact_sheet.py"""

from pathlib import Path

from PIL import Image, ImageDraw

from landuse.data.synthetic import CLASSES, draw_scene

SCENE, LABEL, COLUMNS = 128, 16, 7  # pixels, pixels, scenes a row


def contact_sheet(seed: int = 0, index: int = 1) -> Image.Image:
    """All 21 classes with their names."""
    rows = -(-len(CLASSES) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SCENE, rows * (SCENE + LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(CLASSES):
        left, top = i % COLUMNS * SCENE, i // COLUMNS * (SCENE + LABEL)
        sheet.paste(Image.fromarray(draw_scene(name, seed, index, SCENE)), (left, top))
        draw.text((left + 4, top + SCENE + 2), name, fill="black")
    return sheet


if __name__ == "__main__":
    target = Path(__file__).parent / "images" / "synthetic.png"
    contact_sheet().save(target, optimize=True)
    print(target)
