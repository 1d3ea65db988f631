"""One way to say which model is meant, for training, conversion, evaluation and embedding.

A model is given as the directory of a training run, its `final/`, either layout in that, a checkpoint, a Hugging Face
directory, or the id of one on the hub, with a revision if wanted: `facebook/esm2_t6_8M_UR50D@main`. A directory with a
config.json is read as Hugging Face's, whatever else it has.
"""

import errno
import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unirefine.config.training import Model
from unirefine.errors import UserError
from unirefine.files.hashes import sha256_file
from unirefine.model import checkpoint, convert, huggingface
from unirefine.model.tensors import SafetensorsFile

KINDS = (
    "give a training run, its final/, a checkpoint, a Hugging Face directory, or an id like facebook/esm2_t6_8M_UR50D"
)
PICKLES = (".bin", ".pt", ".pth")
ADAPTER = "adapter_config.json"
"""peft's file beside the weights of an adapter."""
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
_REASONS = {
    "RepositoryNotFoundError": "check the path or id; a private model needs `hf auth login`",
    "RevisionNotFoundError": "the hub has the model, but not this revision",
    "GatedRepoError": "accept its terms on the hub, then `hf auth login`",
    "LocalEntryNotFoundError": "the hub cannot be reached: check the network and HF_ENDPOINT",
}
"""What to do, by the name of an error of the hub's client."""


@dataclass(frozen=True)
class Source:
    """Where a model lies. One of its two layouts is there at least."""

    directory: Path
    """The model as a whole: `final/`, or the directory of its only layout."""
    checkpoint: Path | None
    """A complete Megatron checkpoint."""
    huggingface: Path | None
    """A Hugging Face directory."""
    head: bool = True
    """Whether a model without the language model's head is refused."""
    hub: str | None = None
    """Of a model of the hub: `id@commit`, which says for all time which weights these are."""

    def model(self) -> Model:
        """The size of the model. Raises UserError when it is damaged."""
        if self.checkpoint is not None:
            return checkpoint.model_of(self.checkpoint)
        assert self.huggingface is not None
        return huggingface.model_of(self.huggingface, head=self.head)

    def identity(self) -> Any:
        """What changes with the weights, as JSON: the commit on the hub, else path, size and time of each file."""
        if self.hub is not None:
            return self.hub
        files = sorted(path for path in self.directory.rglob("*") if path.is_file())
        facts = [(path.relative_to(self.directory), path.stat()) for path in files]
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in facts]

    def load(self, model: Any) -> None:
        """Load the weights into an `Esm2`, wrapped or not. Collective. Raises UserError, see the layouts' modules."""
        if self.checkpoint is not None:
            checkpoint.load(self.checkpoint, model)
        else:
            assert self.huggingface is not None
            convert.load_huggingface(self.huggingface, model, head=self.head)


def find(given: Path | str, *, head: bool = True) -> Source:
    """The model that is meant by `given`. A hub id is downloaded: safetensors, config and vocabulary only.

    head: whether the model must have a language-model head, which is seen when it is opened. Raises UserError when
    there is no model of ours or of Hugging Face's layout.
    """
    path = Path(given)
    if path.is_dir():
        return replace(_in_directory(path), head=head)
    if path.is_file():
        if path.suffix in PICKLES:
            raise _convert_first(path)
        raise UserError("a file, not a model", where=path, fix="give the directory that it is in")
    if path.is_absolute() or not (match := _HUB_ID.fullmatch(str(given))):
        raise UserError("no such directory", where=given, fix=KINDS)
    directory = _download(str(given), match[1], match[2])
    return Source(directory, None, directory, head, f"{match[1]}@{directory.name}")


def has_contact_head(given: Path | str) -> bool:
    """Whether a model has the weights of ESM-2's contact head. Raises UserError when there is no model."""
    found = find(given)
    if found.huggingface is not None:
        names = huggingface.HuggingfaceFiles(found.huggingface, head=False).names()
    else:
        aside = found.directory / checkpoint.EXTRA_TENSORS
        names = SafetensorsFile(aside).names if aside.is_file() else []
    return f"{huggingface.CONTACT_HEAD}weight" in names


def _in_directory(path: Path) -> Source:
    if (path / huggingface.CONFIG).is_file():
        if not huggingface.has_safetensors(path) and _has_pickles(path):
            raise _convert_first(path)
        return Source(path, None, path)
    if checkpoint.is_complete(path):
        return Source(path, path, None)
    if (path / ADAPTER).is_file():
        raise UserError(
            "an adapter, not a whole model", where=path,
            fix="give the model that it was merged into: `merged/` of `unirefine finetune --merge`",
        )  # fmt: skip
    if huggingface.has_safetensors(path):
        raise UserError(f"no {huggingface.CONFIG}", where=path, fix="get the whole directory of the Hugging Face model")
    layouts = path / "megatron", path / "huggingface"
    ours = layouts[0] if checkpoint.is_complete(layouts[0]) else None
    theirs = layouts[1] if (layouts[1] / huggingface.CONFIG).is_file() else None
    if ours is not None or theirs is not None:
        return Source(path, ours, theirs)
    if (path / "final").is_dir():
        return _in_directory(path / "final")
    whole = [one.parent for one in sorted(path.glob(f"**/step-*/{checkpoint.MARKER}"))]
    if whole:
        raise UserError("a training that has not finished", where=path, fix=f"give one of its checkpoints: {whole[-1]}")
    if _has_pickles(path):
        raise _convert_first(path)
    raise UserError("neither a training run, a complete checkpoint nor a Hugging Face ESM-2", where=path, fix=KINDS)


def _has_pickles(path: Path) -> bool:
    return any(one.suffix in PICKLES for one in path.iterdir())


def _convert_first(path: Path) -> UserError:
    return UserError(
        "its weights are a pickle of PyTorch; only safetensors are opened", where=path,
        fix=f"convert it first, which reads it without running anything: unirefine convert --from {path} --to DIR",
    )  # fmt: skip


@functools.cache
def _download(given: str, hub_id: str, revision: str | None) -> Path:
    """The directory of a model of the hub, downloaded or as it was downloaded before, named after its commit.

    Raises UserError when it cannot be had, has no safetensors, or when a file is not what the hub says that it is.
    """
    from huggingface_hub import snapshot_download

    wanted = [huggingface.CONFIG, "vocab.txt", "lineage.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        directory = Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises its own, httpx's and OS errors
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise UserError(
            f"no such directory, and cannot download from the hub ({type(error).__name__})",
            where=given, fix=_REASONS.get(type(error).__name__, "check the path or id, and the network"),
        ) from error  # fmt: skip
    if not huggingface.has_safetensors(directory):
        raise UserError(
            "the hub has no safetensors of it, and nothing else is opened", where=given,
            fix="download its pytorch_model.bin yourself, and convert that: unirefine convert --from FILE --to DIR",
        )  # fmt: skip
    for path in sorted(directory.glob("*.safetensors")):
        stored = path.resolve()  # the hub's client names a large file after the sha256 that the hub has stated
        if _SHA256.fullmatch(stored.name) and sha256_file(stored) != stored.name:
            raise UserError("damaged: its sha256 is not the hub's", where=stored, fix="delete it, and start again")
    return directory
