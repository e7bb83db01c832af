"""Structs: plain values with named fields, and the bounds that annotations put on them."""

from __future__ import annotations

import inspect
from typing import Any, Final, NamedTuple


class UnsetType:
    """The type of a field that is not in the file."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = UnsetType()


class Meta(NamedTuple):
    """Bounds on a value, beside its type in `Annotated`."""

    ge: int | None = None
    le: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None


class Config(NamedTuple):
    """How a Struct behaves and is written. Options pass on to subclasses, the tag does not."""

    frozen: bool = False
    eq: bool = True
    array_like: bool = False
    """Written as an array of its fields, after its tag if it has one; else as an object."""
    forbid_unknown_fields: bool = False
    tag: str | None = None


class Struct:
    """Base of all of them: fields are the annotated names, in order, those of the bases first."""

    __struct_fields__: tuple[str, ...] = ()
    __struct_config__: Config = Config()
    __struct_defaults__: dict[str, Any] = {}  # noqa: RUF012 — replaced in each class, never changed

    def __init_subclass__(
        cls, *, tag: str | None = None, gc: bool = True, omit_defaults: bool = False, **options: Any
    ) -> None:
        """`gc` is about memory alone, `omit_defaults` about writing objects, which nobody does
        here."""
        super().__init_subclass__()
        cls.__struct_config__ = cls.__struct_config__._replace(**options, tag=tag)
        own = inspect.get_annotations(cls)
        cls.__struct_fields__ += tuple(own)
        defaults = {name: vars(cls)[name] for name in own if name in vars(cls)}
        cls.__struct_defaults__ = cls.__struct_defaults__ | defaults

    def __init__(self, *args: Any, **named: Any) -> None:
        fields = self.__struct_fields__
        if len(args) > len(fields):
            raise TypeError("Extra positional arguments provided")
        for name in named:
            if name not in fields:
                raise TypeError(f"Unexpected keyword argument '{name}'")
            if name in fields[: len(args)]:
                raise TypeError(f"Argument '{name}' given by name and position")
        given = self.__struct_defaults__ | dict(zip(fields, args, strict=False)) | named
        for name in fields:
            if name not in given:
                raise TypeError(f"Missing required argument '{name}'")
            self.__dict__[name] = given[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__struct_config__.frozen:
            raise AttributeError(f"immutable type: '{type(self).__name__}'")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        if not self.__struct_config__.eq:
            return self is other
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        if not self.__struct_config__.eq:
            return object.__hash__(self)
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({fields})"


def values(struct: Struct) -> list[Any]:
    """The fields' values, in order."""
    return [struct.__dict__[name] for name in struct.__struct_fields__]
