"""The kinds of mistakes, and how what goes wrong elsewhere becomes one of them."""

import re

import pytest

from reslab import errors
from reslab.errors import DamagedError, FailedError, MismatchError, UserError, told

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserError)]


def test_each_kind_of_mistake_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert (
        len(KINDS) > 5
        and len(set(codes)) == len(codes)
        and all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in codes)
    )


@pytest.mark.parametrize("kind", [FailedError, MismatchError])
def test_what_others_raise_becomes_a_mistake_and_a_mistake_stays_what_it_is(kind: type[UserError]) -> None:
    with pytest.raises(kind) as caught, told("the network fails", kind):
        raise ZeroDivisionError("by\nzero")
    assert str(caught.value) == "the network fails: ZeroDivisionError: by zero" and isinstance(
        caught.value.__cause__, ZeroDivisionError
    )
    mistake = DamagedError("a.pt")
    with pytest.raises(DamagedError) as kept, told("the network fails", kind):
        raise mistake
    assert kept.value is mistake
