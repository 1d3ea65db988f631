"""Config of `decontaminate.against`: proteins that train must not be similar to, besides validation and test."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unirefine.config.base import Block

MOST = 100
"""Files of one run."""


class Benchmark(Block):
    """One file of proteins of somebody's benchmark."""

    file: str
    """FASTA, or Parquet with a column `sequence`."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$")]
    """Names it in removed.parquet (`similar_to_<name>`) and in the reports."""
    action: Literal["remove", "report"] = "remove"
    """What becomes of train clusters that are similar to one of its proteins."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_path(cls, values: Any) -> Any:
        """A path alone is the file; its name is the file's, up to the first dot."""
        values = {"file": values} if isinstance(values, str) else values
        if isinstance(values, dict) and "name" not in values and isinstance(values.get("file"), str):
            values = values | {"name": Path(values["file"]).name.partition(".")[0].replace(" ", "_")}
        return values

    @property
    def reason(self) -> str:
        """The reason of what is removed because of it."""
        return f"similar_to_{self.name}"
