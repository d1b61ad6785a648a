"""Types of the config's values, and errors of one line that name the key, what was expected and what was given.

Values are as in YAML 1.2: a boolean is no integer, and neither is 4.0. Imports no torch, pandas or numpy.
"""

import difflib
import functools
import json
import math
import operator
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from intrinsic_lr.core.errors import InputError

T = TypeVar("T")


class Allowed:
    """Annotation of a type: what its values are in words, for errors and for the documentation."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Replace whatever is wrong with a value by one error that says what is allowed."""
        return core_schema.custom_error_schema(
            handler(source), "expected", custom_error_message="{text}", custom_error_context={"text": self.text}
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        """Carry the words into the JSON schema."""
        return {**handler(schema), "allowed": self.text}


def problem(text: str, key: str = "") -> PydanticCustomError:
    """Return the error of a validator, whose text stands as it is after the path of the mapping and the key."""
    return PydanticCustomError("problem", "{text}", {"text": text, "key": key})


def unknown(what: str, name: Any, known: Iterable[str]) -> str:
    """Return what is wrong with a name, with the nearest of those that there are, and all of a few."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=5, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    if not near or len(near) < len(names) <= 10:
        shown = names if len(names) <= 10 else [*names[:5], f"... ({len(names)} in all)"]
        hint += f"expected one of {', '.join(shown) or 'none'}"
    return f"unknown {what} {name!r}; {hint.strip()}"


def expect_mapping(value: Any) -> Any:
    """Refuse what is no mapping."""
    if not isinstance(value, Mapping):
        raise problem(f"expected a mapping, got {show(value)}")
    return dict(value)


class Part(BaseModel):
    """A mapping of the config with named keys, whose docstrings are their meanings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        value = expect_mapping(value)
        for key in value:
            if key not in cls.model_fields:
                raise problem(unknown("key", key, cls.model_fields))
        for key, field in cls.model_fields.items():
            if field.is_required() and key not in value:
                raise problem(f"the key {key!r} is missing ({' '.join(str(field.description).split())})")
        return value


def by_kind(*models: type[Part]) -> Any:
    """Return the type of a mapping whose `kind` decides which of these models it is."""
    kinds = [model.model_fields["kind"].annotation.__args__[0] for model in models]

    def check(value: Any) -> Any:
        value = expect_mapping(value)
        if "kind" not in value:
            raise problem(f"the key 'kind' is missing; expected one of {', '.join(kinds)}")
        if value["kind"] not in kinds:
            raise problem(unknown("kind", value["kind"], kinds), ".kind")
        return value

    return Annotated[functools.reduce(operator.or_, models), Field(discriminator="kind"), BeforeValidator(check)]


def _many(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise problem(f"expected a list with at least one entry, got {show(value)}")
    return value


Many = Annotated[list[T], Field(min_length=1), BeforeValidator(_many)]


def _one_or_many(value: Any) -> Any:
    return _many(value) if isinstance(value, list) else [value]


def axis(hint: Any) -> Any:
    """Return the type of one value or a list of them; read as a list."""
    return Annotated[list[hint], BeforeValidator(_one_or_many, json_schema_input_type=hint | list[hint])]


Index = Annotated[int, Field(ge=0, le=10**18), Allowed("a whole number from 0 to 1e18")]
Count = Annotated[int, Field(ge=1, le=10**9), Allowed("a whole number from 1 to 1e9")]
Depth = Annotated[int, Field(ge=1, le=1000), Allowed("a whole number from 1 to 1000")]
Positive = Annotated[float, Field(ge=1e-18, le=1e18), Allowed("a number above 0, from 1e-18 to 1e18")]


def _zero_or_positive(value: float) -> float:
    if 0 < value < 1e-18:
        raise ValueError
    return value + 0.0  # also for -0.0


Nonnegative = Annotated[
    float,
    Field(ge=0, le=1e18),
    AfterValidator(_zero_or_positive),
    Allowed("0, or a number from 1e-18 to 1e18"),
]
Share = Annotated[float, Field(ge=1e-18, le=1), Allowed("a number above 0, up to 1")]
Fraction = Annotated[float, Field(gt=0, lt=1), Allowed("a number between 0 and 1")]
Flag = Annotated[bool, Allowed("true or false")]
Text = Annotated[str, Field(min_length=1), Allowed("a name")]
Name = Annotated[
    str,
    Field(pattern="^[a-z][a-z0-9_]*$", max_length=40),
    Allowed("a name of lower-case letters, digits and _ that starts with a letter, of at most 40 characters"),
]


def _ascending(value: list[float]) -> list[float]:
    if value != sorted(value):
        raise ValueError
    return value


Range = Annotated[
    list[Positive],
    Field(min_length=2, max_length=2),
    AfterValidator(_ascending),
    Allowed("[low, high], two numbers above 0 with low not above high"),
]
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
Folder = Annotated[str, Field(pattern=_PRINTABLE), Allowed("a folder")]
File = Annotated[str, Field(pattern=_PRINTABLE), Allowed("a file")]
Line = Annotated[str, Field(pattern=_PRINTABLE, max_length=200), Allowed("one line of at most 200 characters")]
Named = Annotated[dict[Name, T], BeforeValidator(expect_mapping)]

Unit = Literal["steps", "epochs", "inverse_intrinsic_lr"]
UNITS: tuple[str, ...] = Unit.__args__
"""Units of time: updates of the weights, passes over the training images, multiples of 1/lambda_e."""


def _one_unit(value: Any) -> Any:
    if not isinstance(value, Mapping) or len(value) != 1 or not set(value) <= set(UNITS):
        raise problem(f"expected a mapping from one of {', '.join(UNITS)} to its number, got {show(value)}")
    return dict(value)


Duration = Annotated[dict[Unit, Positive], BeforeValidator(_one_unit)]
Moments = Annotated[dict[Unit, Many[Nonnegative]], BeforeValidator(_one_unit)]


def validate(schema: TypeAdapter | type[BaseModel], value: Any, place: str = "config: ") -> Any:
    """Return plain data as its type reads it.

    InputError for the first mistake: `place` with the path of the key, what was expected, and what was given.
    """
    check = schema.validate_python if isinstance(schema, TypeAdapter) else schema.model_validate
    try:
        return check(value)
    except ValidationError as error:
        raise InputError(_explain(error.errors(include_url=False)[0], value, place)) from None


def _explain(error: Mapping[str, Any], value: Any, place: str) -> str:
    """Return the line of an error. Parts of its path that are no keys, such as a union's branch, are left out."""
    path = []
    for key in error["loc"]:
        if isinstance(value, Mapping | list) and _holds(value, key):
            path.append(str(key))
            value = value[key]
    if error["loc"][-1:] == ("[key]",):
        path.pop()  # the name itself is what is wrong
    context, got = error.get("ctx", {}), error["input"]
    if error["type"] == "problem":
        text = context["text"]
    else:
        text = context["text"] if error["type"] == "expected" else error["msg"].removeprefix("Input should be ")
        text = f"expected {text}, got {show(got)}{_hint(got)}"
    key = ".".join(path) + context.get("key", "")
    if place == "config: ":
        return f"{place}{key or 'top level'}: {text}"
    return f"{place}{'.' if path else ''}{key}: {text}"


def _holds(value: Mapping[str, Any] | list[Any], key: Any) -> bool:
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return key in value


def show(value: Any) -> str:
    """Return a value as a message shows it, at most 60 characters long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(value: Any) -> str:
    """Explain the commonest surprise of YAML: 1e-3 without a point is text."""
    try:
        is_number = isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        is_number = False
    return " (this is text in YAML: write numbers without quotes, and 1.0e-3 for 1e-3)" if is_number else ""
