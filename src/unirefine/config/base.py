"""What every config block has in common: unknown keys are errors, values are validated, blocks are frozen."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """One block of the config file. Unknown keys are errors; instances cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())
