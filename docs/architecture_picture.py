"""Draw docs/images/architecture.svg, which packages there are and how data flow: python docs/architecture_picture.py

It has a background of its own, so that it reads in light and in dark pages.
"""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1180, 600
TEXT, FAINT, LINE = "#20302e", "#5b6b69", "#78908d"
FILL = {
    "config": "#ece7f6",
    "data": "#dff0ec",
    "training": "#fdeccd",
    "judging": "#dfeafa",
    "use": "#fbe1dd",
    "file": "#ffffff",
}
STYLE = f"""
text {{ font: 14px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: {TEXT}; }}
.package {{ font-weight: 600; font-size: 15px; }}
.faint {{ fill: {FAINT}; font-size: 12px; }}
.file {{ font-family: ui-monospace, Menlo, "DejaVu Sans Mono", monospace; font-size: 12px; }}
.arrow {{ stroke: {LINE}; stroke-width: 1.6; fill: none; marker-end: url(#head); }}
"""
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0 0 L8 4 L0 8 Z" fill="{LINE}"/></marker>'
)


def lane(top: int, height: int, kind: str, name: str, about: list[str], left: int = 16, width: int = WIDTH - 32) -> str:
    """A package: a band with its name and, in lines, what it is for, both at its left."""
    lines = [
        f'<text x="{left + 14}" y="{top + 44 + 16 * i}" class="faint">{escape(a)}</text>' for i, a in enumerate(about)
    ]
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="10" fill="{FILL[kind]}"/>'
        f'<text x="{left + 14}" y="{top + 25}" class="package">{escape(name)}</text>{"".join(lines)}'
    )


def box(centre: int, middle: int, width: int, text: str, is_file: bool = False) -> str:
    """A step, or what is written to the disk: rounded the first, square and in type the other."""
    radius, style = (2, ' class="file"') if is_file else (15, "")
    return (
        f'<rect x="{centre - width // 2}" y="{middle - 15}" width="{width}" height="30" rx="{radius}" fill="#ffffff" '
        f'stroke="{LINE}"/><text x="{centre}" y="{middle + 5}" text-anchor="middle"{style}>{escape(text)}</text>'
    )


def arrow(*points: tuple[int, int]) -> str:
    """Along these points, its head at the last."""
    return f'<path class="arrow" d="M{" L".join(f"{x} {y}" for x, y in points)}"/>'


def chain(middle: int, first: int, step: int, width: int, names: list[str]) -> list[str]:
    """Steps from left to right, each with an arrow to the next."""
    centres = [first + i * step for i in range(len(names))]
    boxes = [box(x, middle, width, name) for x, name in zip(centres, names, strict=True)]
    return boxes + [arrow((x + width // 2, middle), (x + step - width // 2 - 1, middle)) for x in centres[:-1]]


def upper() -> list[str]:
    """From the configuration to a trained model."""
    batches, step, middle = 280, 840, 252
    return [
        lane(
            16,
            56,
            "config",
            "config",
            ["Hydra composes conf/ and the command line; checked dataclasses go to every step"],
        ),
        lane(84, 76, "data", "data", ["every image is decoded", "and checked once"]),
        *chain(122, batches, 140, 104, ["source", "quality", "split"]),
        arrow((612, 122), (653, 122)),
        box(740, 122, 172, "packs, one a split", is_file=True),
        lane(
            172,
            150,
            "training",
            "training, models",
            ["the loop; its random", "numbers follow from seed,", "epoch and step"],
        ),
        *chain(middle, batches, 140, 104, ["batches", "augment", "model", "loss", "step"]),
        arrow((740, 137), (740, 190), (batches, 190), (batches, 236)),
        arrow((step, 267), (step, 296), (batches, 296), (batches, 268)),
        '<text x="560" y="313" text-anchor="middle" class="faint">the next batch</text>',
        box(1034, 222, 228, "metrics.jsonl, checkpoints/", is_file=True),
        box(1034, 282, 228, "model/", is_file=True),
        arrow((892, 246), (919, 226)),
        arrow((892, 258), (919, 278)),
    ]


def lower() -> list[str]:
    """From a trained model to what is made of it."""
    return [
        lane(346, 76, "judging", "evaluation", ["opens the", "test split"], width=560),
        box(236, 384, 104, "evaluate"),
        arrow((288, 384), (319, 384)),
        box(440, 384, 240, "evaluation.json, report.html", is_file=True),
        lane(346, 76, "judging", "exporting", ["proven against", "PyTorch"], left=592, width=572),
        box(788, 384, 104, "export"),
        arrow((840, 384), (893, 384)),
        box(1010, 384, 232, "export/<variant>/", is_file=True),
        arrow((1034, 297), (1034, 334), (236, 334), (236, 368)),
        arrow((1034, 334), (788, 334), (788, 368)),
        lane(434, 84, "use", "serving, mapping, monitoring", ["one engine on onnxruntime;", "no torch from here on"]),
        *(box(x, 486, 120, name) for x, name in ((380, "predict"), (560, "map"), (740, "serve"), (920, "drift"))),
        arrow((1010, 399), (1010, 450), (380, 450), (380, 470)),
        arrow((700, 450), (560, 450), (560, 470)),
        arrow((800, 450), (740, 450), (740, 470)),
        arrow((960, 450), (920, 450), (920, 470)),
        *(
            lane(530, 56, "config", name, [about], left=left, width=width)
            for name, about, left, width in (
                ("sweeps", "many trainings; their state is the study and the run folders", 16, 440),
                ("tracking", "copies the run folder to W&B, in a process of its own", 468, 440),
                ("cloud", "checks bucket and account", 920, 244),
            )
        ),
    ]


def picture() -> str:
    """The SVG."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Packages of landuse and how data flow through them"><style>{STYLE}</style><defs>{HEAD}</defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fbfcfc"/>' + "\n".join(upper() + lower()) + "</svg>\n"
    )


if __name__ == "__main__":
    target = Path(__file__).parent / "images" / "architecture.svg"
    target.write_text(picture(), encoding="utf-8")
    print(target)
