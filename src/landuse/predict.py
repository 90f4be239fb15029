"""python -m landuse.predict: the classes of the images that ``input=`` names, by an exported model.

Runs on the CPU, with onnxruntime: ``trainer.device`` has no meaning here, and torch is not needed.
"""

import csv
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from landuse import progress
from landuse.cli import Invocation, leave, run_command
from landuse.config.schema import Config
from landuse.config.validate_service import validate_predict
from landuse.errors import FailureError, UserError, printable
from landuse.exports import find_exported
from landuse.files import replacing
from landuse.tracking import logs

if TYPE_CHECKING:
    from landuse.serving.bulk import Batch

log = logging.getLogger(__name__)


class Result(NamedTuple):
    """What became of one file."""

    path: str
    top: list[tuple[str, float]]  # the most probable classes and their probabilities, the most probable first
    problem: str | None  # why there are none


class Format(NamedTuple):
    """A way to write results: a text in front of all, and one for each; "" leaves a result out."""

    header: str
    text: Callable[[Result], str]


def predict(config: Config, call: Invocation) -> None:
    """Write the ``predict.top_n`` most probable classes of every image, in the order of the images.

    A file that cannot be used is named on stderr with the reason.

    Raises:
        UserError: there is no such run or no image, or the output cannot be written there.
        FailureError: none of the files could be used.
    """
    validate_predict(config)
    logs.to_stderr(config.log)
    output = None if config.predict.output is None else Path(config.predict.output)
    if output is not None and not call.names("predict.format") and output.suffix.lower()[1:] in FORMATS:
        config.predict.format = cast(Any, output.suffix.lower()[1:])
    if output is not None and output.exists() and not output.is_file():
        raise UserError(f"predict.output={output} is no regular file: name another, or leave it out for stdout.")

    from landuse.inputs import list_images

    paths = list_images(config.input, map(os.fsdecode, sys.stdin.buffer))
    folder = find_exported(config)

    from landuse.data.workers import num_workers
    from landuse.serving.bulk import answer_files
    from landuse.serving.engine import Engine

    num_threads = min(config.predict.num_workers or num_workers(), len(paths))
    engine = Engine(folder, max_batch=min(config.predict.batch_size, len(paths)))
    classes, top_n = engine.model.classes, min(config.predict.top_n, len(engine.model.classes))
    form = FORMATS[config.predict.format](classes, top_n)
    value_range = config.data.quality.value_range
    num_used, started = 0, time.perf_counter()
    with (
        closing(answer_files(engine, paths, num_threads, config.predict.batch_size, value_range)) as batches,
        _opened(output) as file,
        _counting(len(paths), has_bar=sys.stderr.isatty() and not (output is None and sys.stdout.isatty())) as count,
    ):
        _write(file, form.header)
        for batch in batches:
            results = _results(batch, classes, top_n)
            _write(file, "".join(map(form.text, results)))
            num_used += sum(result.problem is None for result in results)
            count(len(results))
        if not num_used:  # inside, so that an older output stays
            raise FailureError(f"None of the {len(paths):,} files could be used, see above.")
    seconds = time.perf_counter() - started
    text = f"predicted {num_used:,} of {len(paths):,} files in {seconds:.1f} s, {len(paths) / seconds:.0f} a second"
    log.log(logging.INFO if num_used == len(paths) else logging.WARNING, text)


def _results(batch: "Batch", classes: Sequence[str], top_n: int) -> list[Result]:
    import numpy as np

    from landuse.serving.engine import top_classes

    probabilities = iter(() if batch.answers is None else batch.answers.probabilities)
    results = []
    for path, problem in zip(batch.paths, batch.problems, strict=True):
        if problem is not None:
            log.warning("%s %s", path, problem)
            results.append(Result(str(path), [], problem))
            continue
        row = next(probabilities)
        # The fewest digits that give the same float32 back.
        top = [(name, float(str(np.float32(probability)))) for name, probability in top_classes(row, classes, top_n)]
        results.append(Result(str(path), top, None))
    return results


def _table(classes: Sequence[str], top_n: int) -> Format:
    """For people. The path comes last, because its width is known only when all have been seen."""
    width = max(len("class"), *(len(printable(name)) for name in classes))

    def text(result: Result) -> str:
        cells = (f"{printable(name):{width}}  {probability:11.1%}  " for name, probability in result.top)
        return "" if result.problem else f"{''.join(cells)}{printable(result.path)}\n"

    return Format(f"{'class':{width}}  probability  " * top_n + "path\n", text)


def _csv(_classes: Sequence[str], top_n: int) -> Format:
    """Columns path, class, probability, and class_2, probability_2 and so on for further classes.

    Before Python 3.13 the csv module quotes a carriage return in a cell only if its own lines end in one. Here a line
    ends in a newline alone all the same, so that awk and the like do not take it for part of the last cell.
    """

    def line(cells: Sequence[str | float]) -> str:
        text = io.StringIO(newline="")
        csv.writer(text).writerow(cells)
        return text.getvalue().removesuffix("\r\n") + "\n"

    further = [f"{column}_{i}" for i in range(2, top_n + 1) for column in ("class", "probability")]

    def text(result: Result) -> str:
        return "" if result.problem else line([result.path, *(cell for pair in result.top for cell in pair)])

    return Format(line(["path", "class", "probability", *further]), text)


def _jsonl(_classes: Sequence[str], _top_n: int) -> Format:
    """An object a line; of a file that could not be used, too."""

    def text(result: Result) -> str:
        top = [{"class": name, "probability": probability} for name, probability in result.top]
        what = {"error": result.problem} if result.problem else {"predictions": top}
        return json.dumps({"path": result.path, **what}) + "\n"

    return Format("", text)


FORMATS: dict[str, Callable[[Sequence[str], int], Format]] = {"table": _table, "csv": _csv, "jsonl": _jsonl}


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Stdout, or a file that takes its name once it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    with replacing(output) as temporary, temporary.open("wb") as file:
        yield file


def _write(file: BinaryIO, text: str) -> None:
    """At once, so that who reads it has it and an interruption loses nothing; file names that are no UTF-8 survive."""
    file.write(text.encode("utf-8", "surrogateescape"))
    file.flush()


@contextmanager
def _counting(total: int, has_bar: bool) -> Iterator[Callable[[int], None]]:
    """Show how many files are done; yields what is to be told how many more are."""
    done, said_at = 0, time.monotonic()
    bar = progress.Bar("predicting", "{task.completed:,.0f} of {task.total:,.0f}", total) if has_bar else None

    def count(more: int) -> None:
        nonlocal done, said_at
        done += more
        if bar is not None:
            bar.update(done)
        elif time.monotonic() - said_at >= progress.LINE_EVERY_S:
            said_at = time.monotonic()
            log.info("%s of %s files", f"{done:,}", f"{total:,}")

    try:
        yield count
    finally:
        if bar is not None:
            bar.close()


def main() -> None:
    """Entry point of landuse-predict."""
    run_command("predict", predict)


if __name__ == "__main__":
    main()
    leave()
