"""metrics.jsonl across restarts."""

from unirefine.train.metrics import Metrics, read, truncate


def test_lines_beyond_the_resumed_step_and_torn_lines_go(tmp_path):
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


def test_a_torn_line_without_resume_goes_too(tmp_path):
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
