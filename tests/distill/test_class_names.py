"""Lists of classes that differ, as a person sees them."""

import pytest

from edgedistill.distill.class_names import SHOWN, difference, side_by_side


def test_the_same_names_in_the_same_order_are_no_difference() -> None:
    assert difference(("a", "b"), ["a", "b"], whose="teacher") is None


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (("b", "a"), "the data's classes in another order:"),
        (("a", "c"), "other classes than the data:"),
        (("a",), "1 classes, the data has 2:"),
        (("a", "b", "c"), "3 classes, the data has 2:"),
    ],
)
def test_what_differs_is_said_first(found: tuple[str, ...], what: str) -> None:
    message = difference(found, ("a", "b"), whose="teacher")
    assert message is not None
    assert message.startswith(what + "\n")


def test_columns_are_aligned_and_differences_marked() -> None:
    assert side_by_side(("cat", "dog"), ("cat", "wolf", "x"), whose="weights").splitlines() == [
        "     weights  data",
        "  0  cat      cat",
        "  1  dog      wolf  <",
        "  2  -        x  <",
    ]


def test_of_long_lists_only_differences_are_shown() -> None:
    names = [str(i) for i in range(1000)]
    one = side_by_side([*names[:-1], "x"], names, whose="teacher").splitlines()
    assert len(one) == 2
    assert one[1].endswith("<")
    assert side_by_side(names[::-1], names, whose="teacher").splitlines()[-1] == f"  … and {1000 - SHOWN} more"
