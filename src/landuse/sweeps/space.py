"""The search space: overrides in the syntax of hydra-optuna-sweeper, and a point of it as overrides again.

choice(a,b), range(1,8), interval(0,1), tag(log, interval(1e-4, 1e-1)), int(interval(...)), or a comma list.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from landuse.config.overrides import quoted
from landuse.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Space:
    """What is swept, and what is the same in every trial."""

    distributions: "dict[str, BaseDistribution]"  # swept key -> where its values come from
    fixed: list[str]  # overrides

    def overrides(self, point: Mapping[str, Any]) -> list[str]:
        """The overrides of the trial at this point."""
        return [*self.fixed, *(f"{key}={override_value(value)}" for key, value in point.items())]

    def describe(self) -> dict[str, str]:
        """For every key its distribution as text, by which a study that goes on is compared."""
        from optuna.distributions import distribution_to_json

        return {key: distribution_to_json(item) for key, item in self.distributions.items()}


def parse_space(params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
    """The space of a recipe's ``hydra.sweeper.params`` and of the command line, which goes first.

    Raises:
        UserError: a range cannot be read, or nothing is swept.
    """
    from hydra.errors import OverrideParseException
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    last = {_bare(argument.partition("=")[0]): argument for argument in arguments}  # as Hydra takes it
    lines = [f"{key}={'null' if value is None else value}" for key, value in params.items() if _bare(key) not in last]
    space = Space({}, [])
    for line in (*lines, *last.values()):
        try:
            distributions, fixed, deletions = create_params_from_overrides([line])
        except OverrideParseException as error:
            raise UserError(
                f"Cannot read what is swept, '{line}': write KEY: choice(a,b), range(1,8), interval(0,1) or "
                "tag(log, interval(1e-4, 1e-1)); with null among the values, a list without choice(), as in 0.1,null."
            ) from error
        except (ValueError, AssertionError, NotImplementedError) as error:
            raise UserError(f"{line} cannot be swept: {str(error) or 'write out its values, as in KEY=a,b'}") from error
        space.distributions.update(distributions)
        space.fixed.extend([*(f"{key}={value}" for key, value in fixed.items()), *deletions])
    if not space.distributions:
        raise UserError("Nothing is swept: give hydra.sweeper.params in the recipe, or KEY=a,b on the command line.")
    return space


def _bare(key: str) -> str:
    """Without the + or ++ that may be before it."""
    return str(key).lstrip("+")


def override_value(value: Any) -> str:
    """A value as it is written in an override: a text that means several there, or nothing, is put into quotes."""
    if value is None:
        return "null"
    return quoted(value) if isinstance(value, str) and not _is_one_value(value) else str(value)


def _is_one_value(text: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return not OverridesParser.create().parse_override(f"key={text}").is_sweep_override()
    except HydraException:
        return False


def grid_points(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination of values, the last key changing fastest.

    Raises:
        UserError: a key has no finite number of values.
    """
    columns = {key: _values(key, distribution) for key, distribution in space.distributions.items()}
    return (dict(zip(columns, point, strict=True)) for point in itertools.product(*columns.values()))


def grid_size(space: Space) -> int:
    """The number of :func:`grid_points`."""
    return math.prod(len(_values(key, distribution)) for key, distribution in space.distributions.items())


def _values(key: str, distribution: Any) -> Sequence[Any]:
    if hasattr(distribution, "choices"):
        return list(dict.fromkeys(distribution.choices))
    step = distribution.step
    if step is None or distribution.log:
        raise UserError(f"{key}: a grid needs choice(...) or range(start,stop,step), and no interval.")
    count = math.floor((distribution.high - distribution.low) / step + 1e-9) + 1
    low, step = Decimal(str(distribution.low)), Decimal(str(step))  # 3 * 0.1 is more than 0.3
    return [type(distribution.low)(low + i * step) for i in range(count)]


def sample_points(space: Space) -> Iterator[dict[str, Any]]:
    """Points that together have every choice and both ends of every range: few, to check a configuration with."""
    columns = {key: _ends(distribution) for key, distribution in space.distributions.items()}
    first = {key: values[0] for key, values in columns.items()}
    yield first
    for key, values in columns.items():
        for value in values[1:]:
            yield {**first, key: value}


def _ends(distribution: Any) -> list[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def check_points(space: Space, check: Callable[[list[str]], None]) -> None:
    """Compose and validate the configuration at :func:`sample_points`.

    Args:
        check: of the overrides of a trial; raises what is wrong with them.

    Raises:
        UserError: says at which values which key is wrong.
    """
    for point in sample_points(space):
        try:
            check(space.overrides(point))
        except UserError as error:
            shown = ", ".join(f"{key}={override_value(value)}" for key, value in point.items())
            raise UserError(f"{error} (at {shown})") from error


def shown_distribution(text: str) -> str:
    """``FloatDistribution(low=0.0001, high=0.1, log=True)`` from its JSON."""
    content = json.loads(text)
    attributes = ", ".join(
        f"{key}={value}" for key, value in content["attributes"].items() if value is not None and value is not False
    )
    return f"{content['name'].removesuffix('Distribution').lower()}({attributes})"
