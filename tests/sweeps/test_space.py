"""The search space: what may be swept, and points as overrides."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from landuse.errors import UserError
from landuse.sweeps.space import (
    check_points,
    grid_points,
    grid_size,
    override_value,
    parse_space,
    sample_points,
    shown_distribution,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choice(a,b)", "categorical(choices=['a', 'b'])"),
        ("0.0,0.1", "categorical(choices=[0.0, 0.1])"),
        ("true,false,null", "categorical(choices=[True, False, 'null'])"),
        ("range(1,8)", "int(step=1, low=1, high=7)"),
        ("range(0,1,0.25)", "float(step=0.25, low=0.0, high=0.75)"),
        ("interval(0,1)", "float(low=0.0, high=1.0)"),
        ("int(interval(1,8))", "int(step=1, low=1, high=8)"),
        ("tag(log, interval(1e-4, 1e-1))", "float(low=0.0001, high=0.1, log=True)"),
        ("choice([1,2],[3,4])", "categorical(choices=['[1,2]', '[3,4]'])"),
    ],
)
def test_forms(text: str, expected: str) -> None:
    shown = shown_distribution(parse_space({"key": text}, []).describe()["key"])
    name, _, attributes = expected.partition("(")
    assert shown.startswith(name + "(")
    if name == "categorical":
        assert shown == expected
    else:
        assert set(attributes.strip(")").split(", ")) == set(shown.partition("(")[2].strip(")").split(", "))


@pytest.mark.parametrize(
    ("params", "arguments", "message"),
    [
        ({}, [], "Nothing is swept"),
        ({"seed": 3}, [], "Nothing is swept"),
        ({"key": "choice()"}, [], "'key=choice()'"),
        ({"key": "choice(1,null)"}, [], "a list without choice()"),
        ({"key": "interval(0,1"}, [], "Cannot read what is swept"),
        ({"key": "interval(5,1)"}, [], "key=interval(5,1) cannot be swept"),
        ({"key": "tag(log, interval(0,1))"}, [], "low > 0"),
        ({"key": "glob(*)"}, [], "glob(*) cannot be swept: write out its values"),
        ({"key": "range(5,1)"}, [], "must contain at least one value"),
        ({"group": {"key": "choice(1,2)"}}, [], "Cannot read what is swept"),
    ],
)
def test_mistakes_name_what_is_wrong(params: dict, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_space(params, arguments)
    assert message in str(caught.value)


def test_the_command_line_goes_before_the_recipe_and_its_last_word_counts() -> None:
    space = parse_space({"a": "choice(1,2)", "b": "choice(1,2)"}, ["a=7", "c=1,2", "c=5", "~d"])
    assert list(space.distributions) == ["b"]
    assert space.fixed == ["a=7", "c=5", "~d"]
    assert space.overrides({"b": 2}) == ["a=7", "c=5", "~d", "b=2"]


@pytest.mark.parametrize("prefix", ["+", "++"])
def test_a_prefix_makes_no_other_key(prefix: str) -> None:
    space = parse_space({"a": "choice(1,2)", "b": "choice(1,2)"}, ["a=1,2", f"{prefix}a=7"])
    assert list(space.distributions) == ["b"] and space.fixed == [f"{prefix}a=7"]


def test_null_in_a_recipe_is_null() -> None:
    assert parse_space({"a": None, "b": "1,2"}, []).fixed == ["a=null"]


@pytest.mark.parametrize(
    ("swept", "values"),
    [
        ("1,2", [1, 2]),
        ("a,null", ["a", None]),
        ("true,false", [True, False]),
        ("'x, y','it\\'s'", ["x, y", "it's"]),
        ("choice('a, b',c)", ["a, b", "c"]),
        ("choice('tab\there',x)", ["tab\there", "x"]),
        ("'1','null'", ["1", "null"]),
        ("choice('{',x)", ["{", "x"]),
        ("[1,2],[3]", [[1, 2], [3]]),
        ("-0.5,1e-05", [-0.5, 1e-05]),
        (r"choice('C:\\new x\\',x)", ["C:\\new x\\", "x"]),
        ("choice('ö ä',x)", ["ö ä", "x"]),
    ],
)
def test_every_value_survives_being_written_as_an_override(swept: str, values: list) -> None:
    """Hydra reads from the trial's overrides what the space says."""
    choices = parse_space({"key": swept}, []).distributions["key"].choices
    read = [OverridesParser.create().parse_override(f"key={override_value(value)}").value() for value in choices]
    assert [getattr(value, "text", value) for value in read] == values


def test_a_grid_has_every_combination() -> None:
    space = parse_space({}, ["a=1,2", "b=range(0,1,0.1)", "c=choice(x,x,y)"])
    points = list(grid_points(space))
    assert grid_size(space) == len(points) == 2 * 10 * 2
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert points[0] == {"a": 1, "b": 0.0, "c": "x"} and points[1]["c"] == "y"
    assert max(point["b"] for point in points) == pytest.approx(0.9)


@pytest.mark.parametrize("swept", ["interval(0,1)", "tag(log, interval(1, 8))"])
def test_a_grid_has_no_intervals(swept: str) -> None:
    with pytest.raises(UserError, match="key: a grid needs"):
        grid_points(parse_space({"key": swept}, []))


def test_the_points_that_are_tried_out_have_all_choices_and_ends() -> None:
    space = parse_space({}, ["a=x,y,z", "b=range(1,8)", "c=interval(0,1)"])
    points = list(sample_points(space))
    assert {point["a"] for point in points} == {"x", "y", "z"}
    assert {point["b"] for point in points} == {1, 7}
    assert {point["c"] for point in points} == {0.0, 1.0}


def test_a_wrong_point_is_named() -> None:
    def refuse(overrides: list[str]) -> None:
        if "b=3" in overrides:
            raise UserError("b=3: too many.")

    with pytest.raises(UserError, match=r"b=3: too many. \(at a=1, b=3\)"):
        check_points(parse_space({}, ["a=1,2", "b=1,3"]), refuse)
