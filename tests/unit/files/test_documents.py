import copy
import json
import pickle

import pytest

from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.files.documents import read_lines
from unirefine.files.hashes import sha256_json

COUNTS = {"stage": "split", "levels": {"uniref50": {"in": 5, "kept": 3, "removed": {"long": 2}}}, "seed": 3}


def test_what_is_written_is_read_and_its_checksum_is_not_seen(tmp_path):
    path = tmp_path / "split/counts.json"
    write_json(path, COUNTS)
    assert read_json(path) == COUNTS
    assert json.loads(path.read_text()) == COUNTS | {"checksum": sha256_json(COUNTS)}
    write_json(tmp_path / "list.json", [1, 2])
    assert (tmp_path / "list.json").read_text() == "[\n 1,\n 2\n]\n"
    write_json(tmp_path / "config.json", {"hidden_size": 8})
    assert (tmp_path / "config.json").read_text() == '{\n "hidden_size": 8\n}\n'
    write_json(path, json.loads(path.read_text()) | {"seed": 4})
    assert read_json(path) == COUNTS | {"seed": 4}


def test_a_changed_digit_is_found(tmp_path):
    path = tmp_path / "results/split/counts.json"
    write_json(path, COUNTS)
    path.write_text(path.read_text().replace("3", "4", 1))
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert caught.value.line() == (
        f"{path}: its content is not what was written (checksum); delete it and run the split stage again"
    )


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("counts.json", "[]", "not an object"),
        ("counts.json", "null", "not an object"),
        ("counts.json", '{"levels": []}', "levels: "),
        ("counts.json", '{"levels": {"uniref50": {"in": "5"}}}', "levels.uniref50.in: "),
        ("counts.json", '{"levels": {"uniref50": {"in": true}}}', "levels.uniref50.in: "),
        ("manifest.json", '{"files": [3]}', "files.0: "),
        ("identity.json", '{"edges": "x"}', "edges: "),
        ("perplexity.json", '{"table": {}}', "table: "),
        ("train.json", '{"step": 2.5}', "step: "),
        ("complete.json", '{"model": {"layers": null}}', "model.layers: "),
        ("lineage.json", '{"steps": [[]]}', "steps.0: "),
        ("release.json", '{"files": [{"size": "x"}]}', "files.0.size: "),
        ("uniref50.xml.gz.json", '{"size": "x"}', "size: "),
        ("places.json", '{"split": 3}', "split: "),
        ("config.json", '{"hidden_size": "x"}', "hidden_size: "),
        ("model.safetensors.index.json", '{"weight_map": []}', "weight_map: "),
        ("counts.json", "[" * 100_000, "not valid JSON"),
        ("counts.json", '{"a": ', "not valid JSON"),
        ("counts.json", "", "not valid JSON"),
    ],
)
def test_another_shape_is_one_line_that_names_the_file_the_value_and_the_stage(tmp_path, name, text, wrong):
    path = tmp_path / "shard" / name
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_json(path)
    line = caught.value.line()
    assert line.startswith(f"{path}: ") and wrong in line and line.endswith("run the shard stage again")


def test_a_document_can_be_copied_as_any_dictionary(tmp_path):
    write_json(tmp_path / "x.json", {"a": {"b": 1}})
    found = read_json(tmp_path / "x.json")
    for copied in (
        copy.deepcopy(found),
        copy.copy(found),
        pickle.loads(pickle.dumps(found)),
        type(found)(found.items()),
    ):
        assert copied == {"a": {"b": 1}}
    assert json.loads(json.dumps(found)) == found | {} == {**found}


def test_a_key_that_is_missing_names_the_file(tmp_path):
    path = tmp_path / "decontaminate/counts.json"
    path.parent.mkdir()
    path.write_text('{"levels": {"uniref50": {}}}')
    with pytest.raises(UserError, match=r"counts\.json: it has no 'kept'; .* the decontaminate stage again"):
        read_json(path)["levels"]["uniref50"]["kept"]
    assert read_json(path).get("sides") is None


def test_bytes_that_are_no_text_are_one_line(tmp_path):
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="not text"):
        read_json(tmp_path / "x.json")


LINES = '{"step": 1, "loss": 3.5}\n{"step": 2, "loss": 3.25}\n'


@pytest.mark.parametrize("tail", ["", '{"step": 3, "lo', "\0\0\0", '{"step": 3, "loss": nul'])
def test_a_torn_last_line_of_metrics_is_left_out_where_that_is_expected(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES + tail)
    assert [line["step"] for line in read_lines(path, torn=True)] == [1, 2]
    if tail:
        with pytest.raises(UserError, match=r"metrics\.jsonl:3: not a line of metrics"):
            read_lines(path)


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"step": "1"}', '{"step": true}', '{"step": 1, "loss": null}', ""])
def test_another_damaged_line_of_metrics_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line}\n{LINES}")
    with pytest.raises(UserError, match=r"metrics\.jsonl:1: not a line of metrics .*; delete it"):
        read_lines(path, torn=True)


def test_metrics_that_are_not_those_of_the_training_are_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES)
    with pytest.raises(UserError, match="SHA-256 differs"):
        read_lines(path, sha256="0" * 64)
    with pytest.raises(UserError, match="no such file"):
        read_lines(tmp_path / "no.jsonl")
