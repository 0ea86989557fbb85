"""How each setting of a run is declared: once, beside its type and its neutral value.

Other parts of the package derive their lists from these declarations: what a first pass over the images depends on,
which runs tables keep apart, which words a grid understands, what the name of a run is made of.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel

# The first stage of a run that a setting changes. Everything after that stage changes with it, nothing before it does.
#   first_pass        the features of the freshly drawn net: its filters and the images that it sees
#   first_clustering  what is made of them: PCA, k-means, and so the Initial Alignment
#   training          everything after the first clustering
#   probe             only the accuracy of the linear probe
#   none              no number at all
Affects = Literal["first_pass", "first_clustering", "training", "probe", "none"]


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting, in its `Annotated` type.

    affects: the first stage that the setting changes. meaning: one line for the reference and for messages.
    none_word: the word that grids and tables use for None, "" where None is no value. identity: whether the setting
    is part of the run's name; a setting that changes no number is not. in_grids: whether a person may give it.
    keeps_apart: whether tables and figures keep runs apart that differ in it. follows: whether the data set and the
    protocol usually decide it, so that tables name it only where they do not. free_in_panels: whether a run with
    another value than the paper's still belongs to the paper's table or figure, as a group of its own; settings of the
    probe, and those that are no part of a grid, of the name or of a group, always are free.
    """

    affects: Affects
    meaning: str
    none_word: str = ""
    identity: bool = True
    in_grids: bool = True
    keeps_apart: bool = True
    follows: bool = False
    free_in_panels: bool = False

    def __post_init__(self) -> None:
        if self.affects not in get_args(Affects):
            raise TypeError(f"affects {self.affects!r} is not one of {', '.join(get_args(Affects))}")
        if self.affects == "none" and self.identity:
            raise TypeError("a setting that affects nothing is not part of the identity: say identity=False")


class DeclaredSettings(BaseModel):
    """A model whose fields all carry a `Setting`; a class with a field that does not is refused when it is made."""

    declared: ClassVar[dict[str, Setting]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.declared = {name: cls._declaration(name) for name in cls.model_fields}

    @classmethod
    def _declaration(cls, name: str) -> Setting:
        found = [one for one in cls.model_fields[name].metadata if isinstance(one, Setting)]
        if len(found) != 1:
            raise TypeError(f"setting {name}: its type needs one Setting(...), which says what it affects")
        return found[0]

    @classmethod
    def free_in_panels(cls) -> frozenset[str]:
        """The settings in which a run may differ from the paper and still belong to its tables and figures."""
        return frozenset(
            name
            for name, one in cls.declared.items()
            if one.free_in_panels or one.affects == "probe" or not (one.identity and one.in_grids and one.keeps_apart)
        )

    @classmethod
    def is_list(cls, name: str) -> bool:
        """Whether a value of this setting is a list; for every other setting a grid sweeps over a list."""
        return tuple in cls.types_of(name)

    @classmethod
    def types_of(cls, name: str) -> frozenset[Any]:
        """The plain types that a value of this setting may have, those of a union one by one, without None."""
        return _plain_types(cls.model_fields[name].annotation) - {types.NoneType}

    @classmethod
    def words_for_none(cls, name: str) -> tuple[str, ...]:
        """The words that mean None in a grid; none where None is no value of the setting."""
        word = cls.declared[name].none_word
        return tuple(dict.fromkeys((word, "off", "none"))) if word else ()

    @classmethod
    def affecting(cls, *stages: Affects) -> tuple[str, ...]:
        """The settings whose first effect is on one of these stages, in the order of their declaration."""
        return tuple(name for name, one in cls.declared.items() if one.affects in stages)


def _plain_types(annotation: Any) -> frozenset[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_types(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return frozenset().union(*(_plain_types(part) for part in get_args(annotation)))
    return frozenset([origin or annotation])
