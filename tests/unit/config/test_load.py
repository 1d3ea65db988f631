import datetime
from argparse import Namespace

import pytest
import yaml

from unirefine.cli.common import config_of
from unirefine.config import Cluster, Decontaminate, Split, load_block, load_config, parse_config
from unirefine.errors import UserError
from unirefine.workflow.directories import release_files


def explain(values):
    with pytest.raises(UserError) as caught:
        parse_config(values, where="config/x.yaml")
    line = caught.value.line()
    assert "\n" not in line
    assert line.startswith("config/x.yaml: ")
    return line


def test_an_unknown_block_names_the_nearest_one():
    assert "unknown key 'splitt'; did you mean 'split'?" in explain({"splitt": {}})


def test_an_unknown_option_names_the_nearest_one_of_its_block():
    assert "unknown key 'train.optimizer.weight_decya'; did you mean 'weight_decay'?" in explain(
        {"train": {"optimizer": {"weight_decya": 0.1}}}
    )


def test_an_option_like_no_other_gets_the_list():
    assert "valid keys: name, base, threads" in explain({"run": {"zzzzzz": 1}})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"split": {"validation_fraction": 2}}, "split.validation_fraction"),
        ({"split": {"seed": "many"}}, "split.seed"),
        ({"split": {"method": "ids"}}, "split.ids must name the list"),
        ({"release": {"source": "archive"}}, "release.name must say which release"),
        ({"release": {"source": "fasta"}}, "release.fasta must name your FASTA"),
        ({"cluster": {"membership": "xml"}}, "cluster.membership is no longer an option: it follows from release"),
        ({"decontaminate": {"audit": {"sensitivity": 5}}}, "sensitivity 5.0 is below the search's 7.0"),
        ({"decontaminate": {"search": {"max_seqs": 2000}}}, "max_seqs 1000 is below the search's 2000"),
        ({"decontaminate": {"search": {"min_seq_id": 0.3}}}, "min_seq_id 0.5 is above the search's 0.3"),
        ({"decontaminate": {"audit": {"max_seqs": 200}}}, "max_seqs 200 is below the search's 300"),
        ({"decontaminate": {"audit": {"coverage": 0.9}}}, "coverage 0.9 is above the search's 0.8"),
        ({"decontaminate": {"audit": {"evalue": 1e-6}}}, "evalue 1e-06 is below the search's 0.001"),
        ({"decontaminate": {"audit": {"alignment_mode": 1}}}, "alignment_mode 1 is below the search's 3"),
        ({"decontaminate": {"audit": {"coverage_mode": 3}}}, "coverage_mode 3 may miss what the search's 0 finds"),
        (
            {"decontaminate": {"audit": {"sensitivity": 7, "max_seqs": 300}}},
            "no more sensitive than the search: raise audit.sensitivity (above 7.0) or audit.max_seqs (above 300)",
        ),
        ({"train": {"model": {"preset": None}}}, "model.hidden and model.heads must be given"),
        ({"train": {"model": {"heads": 3}}}, "exclude each other"),
        ({"train": {"parallel": {"tensor": 3, "processes_per_node": 3}}}, "possible: [1, 2, 4, 5, 10, 20]"),
        ({"train": {"global_batch": 100}}, "nearest: [128]"),
        ({"train": {"global_tokens": 2_000_000}}, "one of train.global_batch (sequences) and train.global_tokens"),
        ({"train": {"global_batch": None}}, "one of train.global_batch (sequences) and train.global_tokens"),
        ({"train": {"global_batch": None, "global_tokens": 9}}, "16 x 1024 x 8 = 131072; possible: from 131072"),
        ({"train": {"parallel": {"pipeline": 40, "processes_per_node": 40}}}, "more than the 33 layers; at most: 33"),
        ({"train": {"fp8": "current", "precision": "fp32"}}, "needs train.precision bf16 or fp16"),
        (
            {"train": {"fp8": "mxfp8", "model": {"preset": "35M"}, "parallel": {"tensor": 4}}},
            "hidden / parallel.tensor = 480 / 4 is not a multiple; possible values of parallel.tensor: [1, 5]",
        ),
        ({"train": {"parallel": {"tensor": 16}}}, "not a multiple of tensor x pipeline x context = 16; nearest: [16]"),
        ({"train": {"parallel": {"sequence": True}}}, "parallel.sequence needs parallel.tensor above 1"),
    ],
)
def test_an_impossible_value_is_one_line_that_says_why(values, says):
    assert says in explain(values)


@pytest.mark.parametrize(
    "audit", [{"sensitivity": 7}, {"max_seqs": 300}, {"min_seq_id": 0.3, "coverage": 0.5, "coverage_mode": 2}]
)
def test_an_audit_may_be_more_sensitive_in_one_way_and_looser_in_others(audit):
    found = parse_config({"decontaminate": {"audit": audit}}).decontaminate.audit
    assert found.model_dump(include=set(audit)) == audit
    assert found.model_dump(exclude=set(audit)) == Decontaminate().audit.model_dump(exclude=set(audit))


def test_a_block_with_the_old_membership_is_refused_as_in_a_whole_config():
    with pytest.raises(UserError, match=r"cluster\.membership is no longer an option.*; delete the line"):
        load_block(Cluster, "cluster", None, {"membership": "idmapping"})


@pytest.mark.parametrize(
    ("release", "needed"),
    [
        ({}, False),
        ({"format": "fasta"}, True),
        ({"source": "archive", "name": "2024_03"}, False),
        ({"source": "fasta", "fasta": "lab.fasta"}, False),
        ({"source": "fasta", "fasta": "lab.fasta", "format": "fasta"}, False),
    ],
)
def test_only_uniref_in_fasta_needs_idmapping(release, needed):
    config = parse_config({"release": release})
    assert config.release.needs_idmapping == needed
    assert ("idmapping_selected.tab.gz" in release_files(config)) == needed


def test_several_mistakes_are_counted():
    assert "(and 1 more)" in explain({"splitt": {}, "shardd": {}})


@pytest.mark.parametrize("text", ["split: [", "- a\n- b\n", "\xff"])
def test_a_file_that_is_not_a_mapping_is_one_line(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"broken\.yaml"):
        load_config(path)


def test_a_missing_file_says_where_to_start(tmp_path):
    with pytest.raises(UserError, match=r"no such config file; config/demo\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_a_stage_takes_its_block_from_a_file_from_json_or_from_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"split": {"seed": 5}}))
    assert load_block(Split, "split", str(path), {}).seed == 5
    assert load_block(Split, "split", '{"seed": 6}', {}).seed == 6
    assert load_block(Split, "split", None, {}).seed == Split().seed
    assert load_block(Split, "split", str(path), {"seed": 7}).seed == 7


def test_a_stage_refuses_a_file_with_a_mistake_in_another_block(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"shard": {"prts": 5}}))
    with pytest.raises(UserError, match="did you mean 'parts'"):
        load_block(Split, "split", str(path), {})


def test_a_block_survives_its_own_json():
    config = parse_config({"train": {"parallel": {"tensor": 2}}})
    again = load_block(type(config.train), "train", config.train.model_dump_json(), {})
    assert again == config.train


@pytest.mark.parametrize("text", ["[", "{a: ", "&a [*a", "a: b: c", "\0", "2024-99-99"])
def test_set_that_is_no_yaml_is_one_line(text):
    with pytest.raises(UserError, match=r"^--set seed="):
        config_of(Namespace(overrides=[f"seed={text}"], config=None), Split, "split")


def test_a_date_is_the_text_that_was_written(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("report: {title: 2024-05-29}\n")
    assert load_config(path).report.title == "2024-05-29"
    assert parse_config({"report": {"title": datetime.date(2024, 5, 29)}}).report.title == "2024-05-29"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("report: {title: 2024-05-29 10:00:00}", "report.title: YAML reads it as datetime; put it in quotes"),
        ("report: {title: !!binary aGVsbG8=}", "report.title: YAML reads it as bytes; put it in quotes"),
        ("split: {? [a, b] : 3}", "not valid YAML"),
        ("split: {null: 3}", "None in split is no name of an option"),
        ("a: &a [*a]", "blocks within blocks without end"),
        ("a: " + "[" * 5000, "not valid YAML"),
        (
            "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'lol'] * 9)}]\n" for i in range(9)),
            "more than 100,000 values",
        ),
    ],
)
def test_what_only_yaml_can_say_is_one_line(tmp_path, text, what):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert what in caught.value.line()
