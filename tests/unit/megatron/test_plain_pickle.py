"""Opening a checkpoint runs nothing that is in it."""

import io
import os
import pickle

from unirefine.megatron import patches, plain_pickle

import pytest
import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)  # fmt: skip
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from unirefine.errors import UserError


class Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def metadata(stored=None, file="__0_0.distcp"):
    size = torch.Size([4, 2])
    tensor = TensorStorageMetadata(
        TensorProperties(torch.bfloat16), size, [ChunkStorageMetadata(torch.Size([0, 0]), size)]
    )
    info = _StorageInfo(relative_path=file, offset=0, length=8)
    return Metadata({"w": stored or tensor}, storage_data={MetadataIndex("w", [0, 0]): info})


@pytest.fixture(autouse=True)
def patched():
    patches.apply()


def write(directory, content):
    (directory / ".metadata").write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))


@pytest.mark.parametrize("read", [plain_pickle.read_metadata, lambda path: FileSystemReader(path).read_metadata()])
def test_what_torch_writes_is_read(tmp_path, read):
    write(tmp_path, metadata())
    found = read(tmp_path)
    assert found.state_dict_metadata == metadata().state_dict_metadata
    assert found.state_dict_metadata["w"].properties.dtype == torch.bfloat16


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("read", [plain_pickle.read_metadata, lambda path: FileSystemReader(path).read_metadata()])
def test_a_program_in_the_metadata_is_not_run(tmp_path, read, inside):
    evil = Touches(tmp_path / "executed")
    content = evil
    if inside:
        content = metadata()
        content.planner_data = {"w": evil}
    write(tmp_path, content)
    with pytest.raises(UserError, match=r"\.metadata: not read, because it names (posix|os)\.system"):
        read(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is damaged"),
        (pickle.dumps(metadata())[:-40], "pickle data was truncated"),
        (pickle.dumps([1, 2]), "does not describe a checkpoint"),
        (metadata(BytesStorageMetadata()), "w is an object, not a tensor"),
        (metadata(file="../../etc/passwd"), "outside its directory"),
        (metadata(file="/etc/passwd"), "outside its directory"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "it names builtins.eval"),
        (b"ctorch\nload\n(S'x'\ntR.", "it names torch.load"),
        (b"ctorch.serialization\n_get_layout.__globals__\n.", "it names torch.serialization._get_layout.__globals__"),
    ],
)
def test_what_is_no_metadata_of_tensors_is_one_line(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        plain_pickle.read_metadata(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_object_in_a_file_of_tensors_is_not_unpickled(tmp_path):
    raw = io.BytesIO(pickle.dumps(Touches(tmp_path / "executed")))
    index, size = MetadataIndex("w"), torch.Size([])
    item = ReadItem(LoadItemType.BYTE_IO, index, size, index, size, size)
    with pytest.raises(UserError, match="w is an object, not a tensor"):
        DefaultLoadPlanner().load_bytes(item, raw)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", ["program", "cut", "gone"])
def test_common_pt_holds_plain_values_only(tmp_path, damage):
    path = tmp_path / "common.pt"
    torch.save({"step": 3, "state": torch.ones(2)}, path)
    plain_pickle.check_common(tmp_path)
    if damage == "program":
        torch.save({"a": Touches(tmp_path / "executed")}, path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"common\.pt: (damaged, or holds|missing)"):
        plain_pickle.check_common(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_the_common_values_that_lie_beside_the_tensors_are_plain_too():
    stream = io.BytesIO()
    torch.save([{"step": 3, "layers": torch.arange(2)}], stream)
    stream.seek(0)
    (found,) = plain_pickle.load_plain(stream)
    assert found["step"] == 3 and found["layers"].tolist() == [0, 1]
    for raw in (pickle.dumps(print), b"", stream.getvalue()[:-40]):
        with pytest.raises(UserError, match=r"common_state/shard_0_1 is damaged, or holds something else"):
            plain_pickle.load_plain(io.BytesIO(raw))
