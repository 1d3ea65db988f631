import json
from pathlib import Path

import pytest
import yaml

from unirefine.config import Cluster, Decontaminate, Split, Train, load_block, load_config, merge_configs, parse_config
from unirefine.errors import UserError
from unirefine.workflow.directories import release_files

ROOT = Path(__file__).parents[3]
PUBLISHED = {"direction": "published", "sensitivity": 7}


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
        ({"decontaminate": {"audit": {"sensitivity": 5}}}, "sensitivity 5.0 is below the search's 6.5"),
        (
            {"decontaminate": {"search": PUBLISHED | {"max_seqs": 2000}, "audit": PUBLISHED}},
            "max_seqs 1000 is below the search's 2000",
        ),
        ({"decontaminate": {"search": {"min_seq_id": 0.3}}}, "min_seq_id 0.5 is above the search's 0.3"),
        (
            {"decontaminate": {"search": PUBLISHED, "audit": PUBLISHED | {"max_seqs": 200}}},
            "max_seqs 200 is below the search's 300",
        ),
        (
            {"decontaminate": {"audit": PUBLISHED | {"sensitivity": 7.5}}},
            "max_seqs 1000 is below the search's direction smaller, which has no limit",
        ),
        ({"decontaminate": {"audit": {"coverage": 0.9}}}, "coverage 0.9 is above the search's 0.8"),
        ({"decontaminate": {"audit": {"evalue": 1e-6}}}, "evalue 1e-06 is below the search's 0.001"),
        ({"decontaminate": {"audit": {"alignment_mode": 1}}}, "alignment_mode 1 is below the search's 3"),
        ({"decontaminate": {"audit": {"coverage_mode": 3}}}, "coverage_mode 3 may miss what the search's 0 finds"),
        (
            {"decontaminate": {"search": PUBLISHED, "audit": PUBLISHED | {"max_seqs": 300}}},
            "no more sensitive than the search: raise audit.sensitivity (above 7.0) or audit.max_seqs (above 300)",
        ),
        (
            {"decontaminate": {"audit": {"sensitivity": 6.5}}},
            "no more sensitive than the search: raise audit.sensitivity (above 6.5)",
        ),
        ({"train": {"model": {"preset": None}}}, "model.hidden and model.heads must be given"),
        ({"train": {"model": {"heads": 3}}}, "exclude each other"),
        ({"train": {"parallel": {"tensor": 3, "processes_per_node": 3}}}, "possible: [1, 2, 4, 5, 10, 20]"),
        ({"train": {"global_batch": 100}}, "nearest: [128]"),
        ({"train": {"global_tokens": 2_000_000}}, "one of train.global_batch (sequences) and train.global_tokens"),
        ({"train": {"global_batch": None}}, "one of train.global_batch (sequences) and train.global_tokens"),
        ({"train": {"global_batch": None, "global_tokens": 9}}, "16 x 1024 x 8 = 131072; possible: from 131072"),
        (
            {"train": {"parallel": {"pipeline": 40, "processes_per_node": 40}}},
            "more stages than the 33 layers; at most: 33 stages",
        ),
        ({"train": {"fp8": "current", "precision": "fp32"}}, "needs train.precision bf16 or fp16"),
        (
            {"train": {"fp8": "mxfp8", "model": {"preset": "35M"}, "parallel": {"tensor": 4}}},
            "hidden / parallel.tensor = 480 / 4 is not a multiple; possible values of parallel.tensor: [1, 5]",
        ),
        (
            {"train": {"fp8": "blockwise", "model": {"preset": "8M"}}},
            "of 128: hidden / parallel.tensor = 320 / 1 is not a multiple; possible values of parallel.tensor: none",
        ),
        ({"train": {"fp8": "nvfp4", "precision": "fp16"}}, "train.fp8 nvfp4 needs train.precision bf16"),
        ({"train": {"fp8_skip_layers": 1}}, "train.fp8_skip_layers needs train.fp8"),
        ({"train": {"fp8": "delayed", "fp8_skip_layers": 1}}, "does not work with train.fp8 delayed"),
        ({"train": {"fp8": "current", "fp8_skip_layers": 17}}, "17 leaves no layer in FP8; at most: 16"),
        (
            {"train": {"fp8": "current", "fp8_skip_layers": 5, "parallel": {"pipeline": 8}}},
            "5 leaves no layer in FP8; at most: 4",
        ),
        ({"train": {"attention": "flash", "precision": "fp32"}}, "train.attention flash has no fp32 kernel"),
        (
            {"train": {"attention": "unfused", "parallel": {"context": 2}}},
            "train.attention unfused does not work with parallel.context above 1",
        ),
        (
            {"train": {"parallel": {"tensor": 16}}},
            "tensor x pipeline x context = 16; nearest: [16] processes",
        ),
        ({"train": {"parallel": {"sequence": True}}}, "parallel.sequence needs parallel.tensor above 1"),
        (
            {"release": {"name": "2024-03"}},
            "release.name '2024-03' is no release of UniProt; write year and number as in",
        ),
        ({"release": {"name": "March"}}, "as in 2024_03"),
        ({"run": {"name": "a/b"}}, "'a/b' cannot name a run: a run is a directory, so its name has none of / { }"),
        ({"run": {"name": "{a}"}}, "cannot name a run"),
        ({"run": {"name": ".."}}, "does not begin with a dot"),
        ({"run": {"name": "-n"}}, "or a hyphen"),
        ({"run": {"name": ""}}, "cannot name a run"),
        ({"run": {"name": "a "}}, "no space at either end"),
        ({"run": {"name": "a\nb"}}, "no line breaks"),
        ({"run": {"name": "é" * 101}}, "at most 200 bytes"),
        ({"run": {"base": "../a"}}, "'../a' cannot name a run"),
    ],
)
def test_an_impossible_value_is_one_line_that_says_why(values, says):
    assert says in explain(values)


@pytest.mark.parametrize(
    "audit", [{"sensitivity": 7}, {"sensitivity": 8}, {"min_seq_id": 0.3, "coverage": 0.5, "coverage_mode": 2}]
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


def test_more_purge_lists_than_a_command_line_holds_are_one_line(tmp_path):
    lists = [f"lists/{number}.txt" for number in range(30_000)]
    with pytest.raises(UserError) as error:
        parse_config({"release": {"purge_lists": lists}})
    line = error.value.line()
    assert "release.purge_lists has 30,000 lists, at most 100 can be taken; join them" in line and len(line) < 300
    assert len(parse_config({"release": {"purge_lists": lists[:100]}}).release.purge_lists) == 100
    with pytest.raises(UserError, match=r"curate\.artificial_taxa"):
        parse_config({"curate": {"artificial_taxa": [2**31]}})


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", {"num_hidden_layers": 6, "hidden_size": 320, "num_attention_heads": 20}, {"preset": "8M"}),
        (
            "final/huggingface/config.json",
            {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4},
            (3, 64, 4),
        ),
        ("megatron/complete.json", {"model": {"layers": 2, "hidden": 32, "heads": 2}}, (2, 32, 2)),
        ("final/megatron/complete.json", {"model": {"layers": 2, "hidden": 32, "heads": 2}}, (2, 32, 2)),
        ("config.json", {"num_hidden_layers": "6"}, {"preset": "650M"}),
        (
            "config.json",
            {"num_hidden_layers": 6, "hidden_size": 64, "num_attention_heads": 5},
            {"preset": "650M"},
        ),
        ("config.json", [], {"preset": "650M"}),
    ],
)
def test_the_sizes_of_the_initial_model_need_not_be_repeated(tmp_path, file, content, expected):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps(content))
    train = load_block(Train, "train", json.dumps({"init": str(tmp_path), "optimizer": {"betas": [0.9, 0.98]}}), {})
    if isinstance(expected, dict):
        assert train.model.preset == expected["preset"]
    else:
        assert train.model.preset is None and train.model.sizes == expected
    assert Train.model_validate_json(train.model_dump_json()) == train
    other = json.dumps({"init": str(tmp_path), "model": {"preset": "35M"}})
    if expected == {"preset": "650M"}:
        assert load_block(Train, "train", other, {}).model.preset == "35M", "compared when the model is opened"
        return
    with pytest.raises(UserError, match="12 layers, hidden 480, 20 heads, and the model of"):
        load_block(Train, "train", other, {})


def test_what_the_config_gives_of_an_initial_model_must_be_true_and_the_rest_is_taken(tmp_path):
    sizes = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(sizes))

    def model(**given):
        return load_block(Train, "train", json.dumps({"init": str(tmp_path), "model": given}), {}).model

    for given in ({}, {"preset": None}, {"layers": 3}, {"preset": None, "hidden": 64}, {"layers": 3, "heads": 4}):
        assert model(**given).sizes == (3, 64, 4)
    for given in ({"layers": 6}, {"preset": None, "hidden": 128}, {"heads": 2}, {"preset": "650M"}):
        with pytest.raises(UserError, match="3 layers, hidden 64, 4 heads; leave"):
            model(**given)


@pytest.mark.parametrize(
    ("init", "preset"),
    [
        ("facebook/esm2_t6_8M_UR50D", "8M"), ("facebook/esm2_t48_15B_UR50D", "15B"),
        ("facebook/esm2_t9_9M_UR50D", "650M"), ("me/model", "650M"),
    ],
)  # fmt: skip
def test_a_published_model_has_its_size_in_its_name(init, preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_block(Train, "train", json.dumps({"init": init}), {}).model.preset == preset


@pytest.mark.parametrize("name", ["my (odd) $dir; é", "2024", "a'b", 'a"b', "$(id)", "a.b-c_d", "~a"])
def test_a_run_may_have_any_name_that_a_directory_may_have(name):
    assert parse_config({"run": {"name": name}}).run.name == name


def blamed(*arguments):
    with pytest.raises(UserError) as caught:
        load_block(*arguments)
    return caught.value.line()


def test_a_fault_is_said_of_what_has_it(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("train: {steps: 20}")
    wrong = "train.steps: Input should be greater than or equal to 1 (got 0)"
    assert blamed(Train, "train", str(path), {"steps": "0"}) == f"--set: {wrong}"
    assert blamed(Train, "train", None, {"steps": "0"}) == f"--set: {wrong}"
    assert blamed(Train, "train", '{"steps": 20}', {"steps": "0"}) == f"--set: {wrong}"
    assert blamed(Train, "train", '{"steps": 0}', {"seed": "1"}) == f"--config (train): {wrong}"
    assert blamed(Train, "train", str(path), {"stesp": "3"}).startswith(
        "--set: unknown key 'train.stesp'; did you mean"
    )
    path.write_text("train: {steps: 0}")
    assert blamed(Train, "train", str(path), {"seed": "1"}) == f"{path}: {wrong}"
    assert load_block(Train, "train", str(path), {"steps": "5"}).steps == 5  # what was wrong is replaced
    with pytest.raises(UserError, match=r"^--config: split\.seed"):
        merge_configs([], {"split": {"seed": "-1"}})
    with pytest.raises(UserError, match=rf"^{path}: train\.steps"):
        merge_configs([path], {"split": {"seed": "3"}})


@pytest.mark.parametrize("key", ["steps", "train.steps"])
def test_an_override_has_the_short_or_the_whole_name(key, tmp_path):
    (tmp_path / "c.yaml").write_text("train: {seed: 4}\nsplit:")
    found = load_block(Train, "train", str(tmp_path / "c.yaml"), {key: "3"})
    assert (found.steps, found.seed) == (3, 4)
    assert load_block(Train, "train", None, {key: "3", "optimizer.lr": "1e-3"}).optimizer.lr == 0.001


def test_an_override_of_another_block_is_refused():
    assert blamed(Train, "train", None, {"split.seed": "3"}) == (
        "--set: split.seed is no option of train; give it to the stage split"
    )
    assert blamed(Train, "train", None, {"steps.x": "3"}).startswith("--set: train.steps")
    assert set(parse_config({}).model_fields).isdisjoint(
        name for block in parse_config({}).model_fields.values() for name in block.annotation.model_fields
    )


def test_config_files_and_what_snakemakes_config_gives_are_laid_over_each_other(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("train: {steps: 5, model: {preset: 8M}}")
    second.write_text("train: {seed: 3, fp8: off}\nrelease: {name: 2024_03}")
    found = merge_configs([first, second], {"train": {"global_batch": "null", "global_tokens": "900_000"}})
    assert (found.train.steps, found.train.seed, found.train.model.preset) == (5, 3, "8M")
    assert (found.train.global_batch, found.train.global_tokens, found.release.name) == (None, 900_000, "2024_03")
    assert merge_configs([], {}) == parse_config({})
    with pytest.raises(UserError, match="no such config file"):
        merge_configs([tmp_path / "none.yaml"], {})


def test_batches_are_packed_unless_asked_otherwise():
    assert Train().packed and not Train(packed=False).packed
    for name in ("uniref-2024_03", "uniref-current"):
        train = load_config(ROOT / f"config/{name}.yaml").train
        assert (train.model.preset, train.packed, train.micro_batch, train.accumulated) == ("650M", True, 32, 8)
