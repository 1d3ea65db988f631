"""metrics.jsonl across restarts, TensorBoard, and Weights & Biases."""

import json
import struct

import pytest

from unirefine.errors import UserError
from unirefine.train.metrics import Metrics, open_wandb, read, truncate


def test_lines_after_the_resumed_step_and_incomplete_lines_are_dropped(tmp_path):
    first = Metrics(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(step, {"loss": 1.0 / step})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 40, "lo')
    second = Metrics(tmp_path, 20)
    second.write(30, {"loss": 7.0, "validation_loss": 2.0})
    second.close()
    assert [(line["step"], line["loss"]) for line in read(tmp_path / "metrics.jsonl")] == [
        (10, 0.1),
        (20, 0.05),
        (30, 7.0),
    ]


def test_an_incomplete_line_is_dropped_without_resuming(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2')
    truncate(path, 100)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


def test_tensorboard_shows_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = Metrics(tmp_path, 0)
    metrics.write(5, {"loss": 2.5, "validation_perplexity": 12.0})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss/train", "perplexity/validation"}
    assert events.Scalars("loss/train")[0].step == 5


def whole_chunks(log: bytes) -> list[bytes]:
    """Records of a .wandb file of one block: LevelDB's framing (checksum, length, type) after a header of 7 bytes."""
    chunks, start = [], 7
    while start < len(log):
        length, kind = struct.unpack("<HB", log[start + 4 : start + 7])
        assert kind == 1
        chunks.append(log[start + 7 : start + 7 + length])
        start += 7 + length
    return chunks


@pytest.fixture
def fresh_wandb(monkeypatch):
    """wandb as in a new process: it keeps the settings of its first use."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


def test_wandb_gets_the_same_values_offline(tmp_path, monkeypatch, fresh_wandb):
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    metrics = Metrics(tmp_path, 0, open_wandb("proteins", tmp_path, {"steps": 10}))
    metrics.write(5, {"loss": 2.5, "validation_perplexity": 12.0})
    metrics.close()
    wandb.teardown()  # waits until wandb's process has written everything, as at the end of a program
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    shown, options = {}, {}
    for record in map(Record.FromString, whole_chunks(path.read_bytes())):
        shown |= {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        options |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    assert (shown["loss/train"], shown["perplexity/validation"], shown["_step"]) == (2.5, 12.0, 5)
    assert options["steps"] == 10


def test_wandb_without_login_is_one_line(tmp_path, monkeypatch, fresh_wandb):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="WANDB_MODE=offline") as error:
        open_wandb("proteins", tmp_path, {})
    assert "\n" not in error.value.line()
