"""The map as one HTML file that needs nothing else: to look at and move, to switch classes, to read areas from."""

import base64
import hashlib
import io
import json
import zlib
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.mapping.reading import file_name, hectares, is_class, legend, ranked
from landuse.page.markup import Html, join, tag
from landuse.page.parts import fact_list, names_table, navigation, number_cell, section, table
from landuse.page.wording import NBSP, percent
from landuse.page.write import write_page

# Nothing is loaded and nothing runs but what was written here; names from outside cannot become a script.
POLICY = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
)
JPEG_QUALITIES = (85, 75, 60, 45)
MAX_JPEG = 2_000_000  # bytes
MAX_CONFIDENCE = 600_000  # bytes
NO_CONFIDENCE = 255
RAMP = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")  # viridis: read in grey and by everybody
CHART_WIDTH = 200
EXPLANATION = (
    "Counted: the area of all pixels that the map gives the class. Corrected: what is left when the model's known "
    "mistakes are reckoned back"
)
INTERVALS = (
    "The interval is where the true area is to be expected with 95 % confidence, as far as the images on which the "
    "mistakes were counted are like those of this scene, and as each tile shows one class: along borders tiles show "
    "two, of which it knows nothing. Where it lies far from what was counted, trust the map of that class less."
)
UNCORRECTED = (
    "Areas are counted from the pixels of the map. They hold the model's mistakes and are not corrected for them."
)


def write_map_page(
    preview: NDArray[np.uint8],
    classes: NDArray[Any],
    confidence: NDArray[np.float32],
    facts: dict[str, Any],
    path: Path,
) -> Path:
    """Write ``map.html``.

    Args:
        preview: (h, w, 3) the scene, of at most about 2,048 pixels along a side.
        classes: (h, w) uint8 or uint16, values of the classes.
        confidence: (h, w) 0..1, NaN where there are no data.
        facts: of the map, as ``map.json`` has them.
        path: of the file to write.
    """
    folder = resources.files("landuse.mapping") / "assets"
    parts = {name: (folder / f"map.{name}").read_text(encoding="utf-8").strip() for name in ("html", "css", "js")}
    shared = (resources.files("landuse.page") / "assets" / "page.css").read_text(encoding="utf-8").strip()
    style = f"{shared}\n{parts['css']}"
    name = file_name(facts)
    text = Template(parts["html"]).substitute(
        policy=POLICY.format(style=_checksum(style), script=_checksum(parts["js"])),
        title=join(f"Land use of {name}"),
        style=style,
        head=_head(name, facts),
        images=_images(name, preview, classes, facts),
        legend=_legend(classes, facts),
        ramp=_ramp(),
        body=join(_areas(facts), _facts(facts)),
        data=_data(classes, confidence, facts),
        script=parts["js"],
    )
    return write_page(path, text)


def _checksum(text: str) -> str:
    """A source as Content Security Policy Level 3 writes it, section 2.3.1."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _head(name: str, facts: dict[str, Any]) -> Html:
    scene, model = facts["scene"], facts["model"]
    pairs = {"Scene": f"{scene['width']:,} × {scene['height']:,}{NBSP}px"}
    if scene["pixel_size_m"]:
        pairs["Pixel"] = _metres(scene["pixel_size_m"])
    areas = [entry["counted_ha"] for entry in facts["areas"]]
    if areas and None not in areas:
        pairs["Mapped area"] = f"{hectares(sum(areas))}{NBSP}ha"
    pairs |= {"Classes found": str(sum(entry["pixels"] > 0 for entry in facts["areas"] if is_class(entry, facts))),
              "Model": str(model["version"] or model["variant"])}  # fmt: skip
    warnings = (tag("p", str(warning), class_="warning") for warning in facts["warnings"])
    links = navigation({"map": "Map", "areas": "Areas", "facts": "How it was made"})
    return tag("header", tag("h1", f"Land use of {name}"), fact_list(pairs), *warnings, links)


def _images(name: str, preview: NDArray[np.uint8], classes: NDArray[Any], facts: dict[str, Any]) -> Html:
    """The scene and the classes over it, as a browser without scripts shows them."""
    height, width = classes.shape
    found = [entry["class"] for entry in ranked(facts) if entry["pixels"]]
    alt = f"The scene {name} from above, with a colour for each class over it: {', '.join(found) or 'no data'}."
    sides = {"width": str(width), "height": str(height)}
    scene = tag("img", src=_uri("jpeg", _jpeg(preview)), alt=alt, draggable="false", **sides)
    return join(scene, tag("img", src=_uri("png", _class_png(classes, facts)), alt="", draggable="false", **sides))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def _jpeg(preview: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    content = b""
    for quality in JPEG_QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(preview).save(buffer, "JPEG", quality=quality, optimize=True)
        content = buffer.getvalue()
        if len(content) <= MAX_JPEG:
            break
    return content


def _class_png(classes: NDArray[Any], facts: dict[str, Any]) -> bytes:
    """The classes in their colours, transparent where there are no data."""
    from PIL import Image

    colours = np.zeros((int(np.iinfo(classes.dtype).max) + 1, 4), np.uint8)
    for entry in legend(facts):
        colours[entry["value"]] = (*bytes.fromhex(entry["colour"][1:]), 255)
    buffer = io.BytesIO()
    if classes.dtype == np.uint8:
        image = Image.fromarray(classes, "P")
        image.putpalette(colours[:, :3].tobytes())
        image.save(buffer, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    else:
        Image.fromarray(colours[classes]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _swatch(colour: str) -> Html:
    # Attributes of SVG need no inline style, which the policy forbids.
    rectangle = tag("rect", width="16", height="16", rx="3", fill=colour)
    return tag("svg", rectangle, viewBox="0 0 16 16", class_="swatch", aria_hidden="true")


def _legend(classes: NDArray[Any], facts: dict[str, Any]) -> Html:
    colours = {entry["value"]: entry["colour"] for entry in legend(facts)}
    items = [
        tag("li", _swatch(colours[entry["value"]]), tag("span", str(entry["class"]), class_="name"),
            tag("span", percent(entry["counted_share"]), class_="share"), data_value=str(entry["value"]))
        for entry in ranked(facts)
        if entry["pixels"]
    ]  # fmt: skip
    if (classes == facts["nodata"]).any():
        items.append(tag("li", _swatch("none"), tag("span", "no data: not coloured", class_="name muted")))
    return tag("ul", *items, aria_label="Classes, largest first")


def _ramp() -> Html:
    stops = (tag("stop", offset=f"{index / (len(RAMP) - 1):g}", stop_color=code) for index, code in enumerate(RAMP))
    gradient = tag("defs", tag("linearGradient", *stops, id="ramp"))
    bar = tag("svg", gradient, tag("rect", width="100", height="10", fill="url(#ramp)"), viewBox="0 0 100 10",
              preserveAspectRatio="none", class_="ramp", aria_hidden="true")  # fmt: skip
    ends = tag("p", tag("span", f"0{NBSP}%"), tag("span", f"50{NBSP}%"), tag("span", f"100{NBSP}%"), class_="ends")
    return join(tag("p", "Confidence of the model", class_="small"), bar, ends)


def _areas(facts: dict[str, Any]) -> Html:
    entries = ranked(facts)
    has_ground = any(entry["counted_ha"] is not None for entry in entries)
    unit = "ha" if has_ground else "share"
    is_corrected = any(entry[f"corrected_{unit}"] is not None for entry in entries)
    largest = max([0.0, *(entry[key] or 0.0 for entry in entries for key in (f"counted_{unit}", f"high_{unit}"))])
    columns = ["Class", "Counted, ha", "Counted, share"] if has_ground else ["Class", "Counted, share"]
    if is_corrected:
        columns += [f"Corrected, {unit}", "Interval", ""]
    colours = {entry["value"]: entry["colour"] for entry in legend(facts)}
    rows = []
    for entry in entries:
        cells = [tag("th", tag("span", _swatch(colours[entry["value"]]), str(entry["class"])), scope="row")]
        if has_ground:
            cells.append(number_cell(hectares(entry["counted_ha"])))
        cells.append(number_cell(percent(entry["counted_share"])))
        if is_corrected:
            cells += _corrected(entry, unit, largest)
        rows.append(tag("tr", *cells))
    content = tag("div", table(None, columns, rows, 1), class_="classes")
    return section("areas", "Areas", *_explanation(facts, has_ground, is_corrected), content)


def _explanation(facts: dict[str, Any], has_ground: bool, is_corrected: bool) -> list[Html]:
    sentences = []
    if is_corrected:
        basis = str(facts["correction"] or "").strip().rstrip(".")
        sentences.append(tag("p", EXPLANATION + (f" ({basis})." if basis else ".")))
        sentences.append(tag("p", INTERVALS))
        mark = '<svg class="interval" viewBox="0 0 40 24" aria-hidden="true">{}</svg>'
        marks = {
            '<rect class="reach" x="2" y="8" width="36" height="8" rx="2"/>': "interval",
            '<rect class="corrected" x="18.5" y="4" width="3" height="16"/>': "corrected",
            '<circle class="counted" cx="20" cy="12" r="4"/>': "counted",
        }
        items = (tag("li", Html(mark.format(shape)), word) for shape, word in marks.items())
        sentences.append(tag("ul", *items, class_="marks small muted"))
    else:
        sentences.append(tag("p", UNCORRECTED))
    if not has_ground:
        sentences.append(tag("p", "The scene has no place on the ground, so areas are shares of what was mapped."))
    return sentences


def _corrected(entry: dict[str, Any], unit: str, largest: float) -> list[Html]:
    """Cells of what was corrected: the number, its interval in words, and as a bar."""
    value, low, high = (entry[f"{key}_{unit}"] for key in ("corrected", "low", "high"))
    if value is None:
        return [number_cell("–"), number_cell("–"), tag("td", class_="chart")]
    spelled = (lambda number: percent(number)) if unit == "share" else hectares
    interval = "–" if low is None or high is None else f"{spelled(low)} to {spelled(high)}"
    return [number_cell(spelled(value)), number_cell(interval), _chart(entry, unit, largest)]


def _chart(entry: dict[str, Any], unit: str, largest: float) -> Html:
    counted, value, low, high = (
        None if entry[f"{key}_{unit}"] is None else CHART_WIDTH * entry[f"{key}_{unit}"] / (largest or 1)
        for key in ("counted", "corrected", "low", "high")
    )
    shapes = [tag("rect", class_="line", y="11", width=str(CHART_WIDTH), height="2")]
    if low is not None and high is not None:
        width = max(high - low, 1.0)
        shapes.append(tag("rect", class_="reach", x=f"{low:.1f}", y="8", width=f"{width:.1f}", height="8", rx="2"))
    if value is not None:
        shapes.append(tag("rect", class_="corrected", x=f"{value - 1.5:.1f}", y="4", width="3", height="16"))
    if counted is not None:
        shapes.append(tag("circle", class_="counted", cx=f"{counted:.1f}", cy="12", r="4"))
    chart = tag("svg", *shapes, viewBox=f"-5 0 {CHART_WIDTH + 10} 24", class_="interval", aria_hidden="true")
    return tag("td", chart, class_="chart")


def _facts(facts: dict[str, Any]) -> Html:
    scene, model, windows = facts["scene"], facts["model"], facts["windows"]
    pairs = [
        ("Scene", str(scene["path"])),
        ("Coordinate system", _system(scene)),
        ("Pixel", _metres(scene["pixel_size_m"]) if scene["pixel_size_m"] else "of unknown size on the ground"),
        ("Model", f"{model['folder']}, {model['variant']}" + (f", {model['version']}" if model["version"] else "")),
        ("Tile", f"{_pair(windows['tile_px'])} pixels of the scene"),
        ("Stride", f"{_pair(windows['stride_px'])} pixels"),
        ("Windows", f"{windows['num']:,}" + (", each in its eight symmetries" if windows["symmetries"] else "")),
        ("Least confidence", percent(facts["min_confidence"]) if facts["min_confidence"] else "none asked for"),
        ("Made", str(facts["created"])),
    ]
    note = "Each class is that of a whole tile around a place; what is smaller than a tile cannot be seen on the map."
    return section("facts", "How it was made", tag("p", note), names_table("How the map was made", pairs))


def _system(scene: dict[str, Any]) -> str:
    if scene["crs"] is None:
        return "none: the scene has no known place on the ground"
    return str(scene["crs_name"] or str(scene["crs"]).partition('"')[2].partition('"')[0] or "unnamed")


def _pair(sides: list[int]) -> str:
    """Rows and columns as width and height."""
    return f"{sides[1]:,} × {sides[0]:,}"


def _metres(sizes: list[float]) -> str:
    across, down = (f"{size:.3g}" for size in sizes)
    return f"{across}{NBSP}m" if across == down else f"{across} × {down}{NBSP}m"


def _data(classes: NDArray[Any], confidence: NDArray[np.float32], facts: dict[str, Any]) -> Html:
    """What the script reads; no ``<`` in it, so that nothing can end the element."""
    height, width = classes.shape
    is_known = np.isfinite(confidence)
    shares = np.full(classes.shape, NO_CONFIDENCE, np.uint8)
    shares[is_known] = np.rint(np.clip(confidence[is_known], 0, 1) * (NO_CONFIDENCE - 1)).astype(np.uint8)
    step, packed = 1, _packed(shares)
    while len(packed) > MAX_CONFIDENCE:
        step *= 2
        packed = _packed(shares[::step, ::step])
    content = {
        "width": width,
        "height": height,
        "nodata": facts["nodata"],
        "wide": classes.dtype != np.uint8,
        "values": _packed(classes.astype("<u2") if classes.dtype != np.uint8 else classes),
        "confidence": {"step": step, "columns": -(-width // step), "values": packed},
        "ramp": RAMP,
        "classes": [{key: entry[key] for key in ("value", "name", "colour")} for entry in legend(facts)],
        "scene": {key: facts["scene"][key] for key in ("width", "height", "transform", "crs_name")},
    }
    return Html(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode("ascii")
