"""How a partial change is asked for: a field that is not mentioned is UNSET, which is not the same as None."""

from enum import Enum


class Unset(Enum):
    """The type of UNSET."""

    UNSET = "unset"


UNSET = Unset.UNSET
