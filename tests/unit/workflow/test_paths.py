"""Paths of a run, as the rules declare them."""

from pathlib import Path

from unirefine.config import parse_config
from unirefine.workflow.paths import Paths

SMALL = {"run": {"name": "small"}, "records": {"parts": 2}, "shard": {"parts": 2}, "decontaminate": {"parts": 2}}


def paths(elsewhere=(), **changes):
    return Paths(parse_config(SMALL | changes), dict(elsewhere))


def test_a_stage_lies_below_the_run():
    run = paths()
    assert run.directory("split") == "results/small/split"
    assert run.logs("split") == "logs/small/split"
    assert run.benchmarks("split") == "benchmarks/small/split"
    assert run.lineage("split") == "results/small/split/lineage.json"


def test_a_shared_stage_lies_and_logs_in_the_run_that_makes_it():
    run = paths({"split": Path("results/first/split"), "release": Path("/data/uniref")})
    assert (run.directory("split"), run.logs("split")) == ("results/first/split", "logs/first/split")
    assert run.benchmarks("split") == "benchmarks/first/split"
    assert (run.directory("release"), run.logs("release")) == ("/data/uniref", "logs/small/release")


def test_records_of_xml_of_fasta_and_of_a_custom_fasta():
    xml = paths().records()
    assert len(xml) == 2 * (2 + 2 + 1)
    assert "results/small/records/uniref50/members-001-of-002.parquet" in xml
    fasta = paths(release={"format": "fasta"})
    assert len(fasta.records()) == 2 * (2 + 1)
    custom = paths(release={"source": "fasta", "fasta": "a.fasta"})
    assert custom.levels == ["uniref90"]
    assert custom.records() == [
        "results/small/records/uniref90/records-000-of-002.parquet",
        "results/small/records/uniref90/records-001-of-002.parquet",
        "results/small/records/uniref90/counts.json",
    ]
    assert custom.level_lineages() == ["results/small/records/uniref90/lineage.json"]


def test_searches_have_a_pattern_and_one_file_a_part():
    run = paths()
    assert run.search_pattern("hits", "parquet") == "results/small/decontaminate/hits/part-{part}-of-002.parquet"
    assert run.search_files("hits", "parquet") == [
        "results/small/decontaminate/hits/part-000-of-002.parquet",
        "results/small/decontaminate/hits/part-001-of-002.parquet",
    ]


def test_shards_have_a_test_side_where_one_is_asked_for():
    names = [Path(path).name for path in paths().shards()]
    assert names[:3] == ["train-000-of-002.bin", "train-000-of-002.idx", "train-000-of-002.ids.parquet"]
    assert names[-3:] == ["validation.bin", "validation.idx", "validation.ids.parquet"]
    more = [Path(path).name for path in paths(split={"test_fraction": 0.1}).shards()]
    assert more == [*names, "test.bin", "test.idx", "test.ids.parquet"]


def test_embeddings_are_tables_and_arrays_by_option():
    def named(**embed):
        return [Path(path).name for path in paths(embed=embed).embeddings()]

    assert named() == ["sequences.parquet", "residues.parquet"]
    assert named(per_residue=False) == ["sequences.parquet"]
    assert named(arrays=True) == ["sequences.parquet", "residues.parquet", "sequences.npy", "residues.npy"]
    assert named(arrays=True, per_residue=False) == ["sequences.parquet", "sequences.npy"]


def test_initial_weights_are_files_not_their_directory(tmp_path):
    assert paths().initial_weights() == []
    empty = paths(train={"init": str(tmp_path)})
    assert empty.initial_weights() == [str(tmp_path)], "the command says what is wrong with it"
    for name in ("model.safetensors", "config.json", "notes.txt"):
        (tmp_path / name).touch()
    assert empty.initial_weights() == [str(tmp_path / "config.json"), str(tmp_path / "model.safetensors")]
    assert paths(train={"init": "facebook/esm2_t6_8M_UR50D"}).initial_weights() == []
    for name in ("final/megatron/__0_0.distcp", "final/megatron/complete.json", "final/huggingface/model.safetensors"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    for given in ("train", "train/final"):
        files = paths(train={"init": str(tmp_path / given)}).initial_weights()
        found = [str(Path(name).relative_to(tmp_path / "train/final")) for name in files]
        assert found == ["huggingface/model.safetensors", "megatron/__0_0.distcp"]
