"""What every config block has in common: unknown keys are errors, values are validated, blocks are frozen."""

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

_YAML_1_1 = {"off": False, "no": False, "on": True, "yes": True}


class Block(BaseModel):
    """One block of the config file. Unknown keys are errors; instances cannot be changed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_typed(cls, values: Any) -> Any:
        """Take a literal also as the text `3`, and as the boolean that YAML 1.1 makes of `off`.

        A block without a line, as when all are commented out, is None.
        """
        if not isinstance(values, dict):
            return {} if values is None else values
        return {key: _literal(cls.model_fields.get(key), value) for key, value in values.items()}


def _literal(field: FieldInfo | None, value: Any) -> Any:
    for option in _options(field.annotation) if field else ():
        if isinstance(value, bool) and _YAML_1_1.get(option) is value:
            return option
        if isinstance(value, str) and value == str(option):
            return option
    return value


def _options(annotation: Any) -> tuple[Any, ...]:
    """The values of a Literal, also within a union; none for another type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(option for inner in get_args(annotation) for option in _options(inner))
