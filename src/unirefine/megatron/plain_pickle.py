"""Reading the pickles of a distributed checkpoint without running anything that is in them.

torch writes what a checkpoint holds to `.metadata`, as a pickle, and reads it with plain `pickle.load`. Whoever can
write that file could run a program. Here only the classes that torch itself writes there are known, and the result is
checked: tensors and Megatron's common values only, in files of the same directory.
"""

import pickle
from pathlib import Path, PurePosixPath
from typing import IO, Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)

from unirefine.errors import UserError

FILE = ".metadata"
COMMON = "common_state/shard_0_1"
"""The one object beside the tensors, of Megatron-core from 0.19 on: what earlier versions write to `common.pt`."""
_DCP = "torch.distributed.checkpoint"
KNOWN = {
    f"{_DCP}.metadata": {
        *("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "ChunkStorageMetadata"),
        *("BytesStorageMetadata", "TensorProperties", "_MEM_FORMAT_ENCODING"),
    },
    f"{_DCP}.planner": {"SavePlan", "WriteItem", "WriteItemType", "TensorWriteData", "BytesIOWriteData"},
    f"{_DCP}.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "torch": {"Size", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
}
"""Names by module that a `.metadata` may contain: plain classes, dtypes, and the function that names a layout."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in KNOWN.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def load_metadata(stream: IO[bytes], path: Path) -> Metadata:
    """The content of a `.metadata`. path: its file, for messages.

    Raises UserError for a name that is not in KNOWN, for what is no such file, for objects other than tensors, and for
    files outside the checkpoint's directory.
    """

    def refuse(what: str) -> UserError:
        return UserError(f"not read, because {what}", where=path, fix="use a checkpoint of a source that you trust")

    try:
        found = _Unpickler(stream).load()
    except pickle.UnpicklingError as error:
        raise refuse(str(error)) from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise refuse(f"it is damaged ({type(error).__name__})") from None
    if not isinstance(found, Metadata) or not isinstance(getattr(found, "state_dict_metadata", None), dict):
        raise refuse("it does not describe a checkpoint")
    for name, stored in found.state_dict_metadata.items():
        if name == COMMON and isinstance(stored, BytesStorageMetadata):
            continue
        if not isinstance(stored, TensorStorageMetadata):
            raise refuse(f"{name} is an object, not a tensor")
    if not isinstance(getattr(found, "storage_data", None), dict):
        raise refuse("it names no files")
    for index, info in found.storage_data.items():
        if not isinstance(index, MetadataIndex) or not isinstance(info, _StorageInfo):
            raise refuse("it names no files")
        file = PurePosixPath(str(info.relative_path))
        if len(file.parts) != 1 or file.is_absolute() or file.name in ("", ".."):
            raise refuse(f"it names a file outside its directory: {info.relative_path!r}")
    return found


def read_metadata(directory: Path) -> Metadata:
    """The metadata of the checkpoint in `directory`. Raises UserError, see `load_metadata`."""
    path = directory / FILE
    try:
        with path.open("rb") as stream:
            return load_metadata(stream, path)
    except FileNotFoundError:
        raise UserError("missing", where=path, fix="the checkpoint is incomplete: use another") from None


def check_common(directory: Path) -> None:
    """Raise UserError unless `common.pt`, which torch reads with weights_only, holds plain values only.

    Without one, `.metadata` must have the object in its place, which `load_plain` reads.
    """
    path = directory / "common.pt"
    if not path.exists() and (directory / FILE).exists() and COMMON in read_metadata(directory).state_dict_metadata:
        return
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError("missing", where=path, fix="the checkpoint is incomplete: use another") from None
    except Exception as error:  # damaged archives and pickles raise nearly anything
        raise UserError(
            f"damaged, or holds something else than tensors and plain values ({type(error).__name__})",
            where=path, fix="use another checkpoint",
        ) from None  # fmt: skip


def load_plain(stream: IO[bytes]) -> Any:
    """The content of the object COMMON: tensors and plain values. Raises UserError for anything else."""
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives and pickles raise nearly anything
        raise UserError(
            f"{COMMON} is damaged, or holds something else than tensors and plain values ({type(error).__name__})",
            fix="use another checkpoint",
        ) from None
