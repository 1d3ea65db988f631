"""What rules pass on, as Snakemake compares it."""

import json

import pytest
from snakemake.rules import Rule

from unirefine.config import parse_config
from unirefine.core.levels import STAGES
from unirefine.errors import UserError
from unirefine.workflow import options


def config(**blocks):
    return parse_config(blocks)


def test_options_are_one_string_of_all_or_of_some():
    found = options.stage_options(config(split={"seed": 5}), "split")
    assert json.loads(found)["seed"] == 5
    some = options.stage_options(config(), "decontaminate", "level", "parts")
    assert json.loads(some) == {"level": "members", "parts": 24}


def test_untracked_params_look_derived_to_snakemake():
    param = options.untracked("x")
    assert param(None, None) == "x"
    assert Rule._is_deriving_function(param)
    assert not Rule._is_deriving_function(lambda wildcards: "x")


RELEASE = {"taxdump": "https://x/taxdump.tar.gz", "purge_lists": ["lists/a.txt", "file:b.txt"], "name": "2024_03"}


def test_a_download_is_decided_by_its_source_only():
    first = config(release=RELEASE)
    other = config(release=RELEASE | {"mirrors": ["file:elsewhere"], "purge_lists": ["lists/a.txt", "another.txt"]})
    for name in ("uniref50.xml.gz", "taxdump.tar.gz", "purge-0.txt"):
        assert options.download_options(first, name) == options.download_options(other, name)
    assert options.download_options(first, "purge-1.txt") != options.download_options(other, "purge-1.txt")
    newer = config(release=RELEASE | {"name": "2024_04"})
    changed = [name for name in options.release_files(first)
               if options.download_options(first, name) != options.download_options(newer, name)]  # fmt: skip
    assert changed == ["uniref50.xml.gz", "uniref90.xml.gz", "uniref50.release_note", "uniref90.release_note"]


def test_only_a_path_is_a_local_download():
    found = config(release=RELEASE)
    assert options.local_download(found, "purge-0.txt") == "lists/a.txt"
    for name in ("purge-1.txt", "taxdump.tar.gz", "uniref50.xml.gz"):
        assert options.local_download(found, name) is None
    assert options.local_download(config(release={"purge_lists": ["my: list.txt"]}), "purge-0.txt") == "my: list.txt"


@pytest.mark.parametrize(
    ("blocks", "archived", "single"),
    [
        ({"release": {"taxdump": None}}, [], 4),
        ({"release": RELEASE}, [], 4 + 1 + 2),
        ({"release": RELEASE | {"source": "archive"}}, ["uniref50.xml.gz", "uniref90.xml.gz"], 1 + 2),
        ({"release": {"format": "fasta", "taxdump": None}}, [], 4 + 1),
        ({"release": {"source": "fasta", "fasta": "a", "taxdump": None}}, [], 0),
    ],
)
def test_downloads_by_source(blocks, archived, single):
    found = config(**blocks)
    notes = [name.replace("xml.gz", "release_note") for name in archived]
    assert options.archived_files(found) == archived + notes
    assert len(options.single_downloads(found)) == single
    assert sorted(options.archived_files(found) + options.single_downloads(found)) == sorted(
        options.release_files(found)
    )


def test_words_leave_out_what_is_not_given():
    assert options.words("--taxdump", []) == options.words("--taxdump", None) == []
    assert options.words("--purge-list", "a b", "c") == ["--purge-list", "a b", "--purge-list", "c"]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "release"])
def test_every_stage_has_a_digest_of_its_code(stage):
    assert options.code_digest(stage).startswith("code:")


def test_mmseqs_that_is_not_here_is_no_error():
    assert options.mmseqs_version(config(tools={"mmseqs": "no-such-tool"})) == "MMseqs2:not found here"


def test_a_model_of_one_process_needs_no_launcher():
    assert options.model_command(config(), "evaluate") == ["unirefine", "evaluate"]


def test_the_processes_of_a_model_divide_the_threads():
    """Snakemake sets both variables to all threads of the rule, and torch prefers MKL's."""
    eight = {"embed": {"parallel": {"tensor": 4, "pipeline": 2}}}
    many = " ".join(options.model_command(config(run={"name": "a", "threads": 17}, **eight), "embed"))
    launcher = "torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node 8 -m unirefine.cli.main embed"
    assert many == f"env OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 {launcher}"
    assert "OMP_NUM_THREADS=1" in options.model_command(config(run={"name": "a", "threads": 2}, **eight), "embed")


def test_a_container_is_started_on_every_node():
    prefix = options.container_prefix("a.sif", "--nv", 3)
    assert prefix.startswith("${SLURM_JOB_ID:+srun --nodes 3 --ntasks 3 --ntasks-per-node 1 ")
    assert prefix.endswith('} apptainer exec --home "$PWD" --nv a.sif')


def test_the_parent_of_a_file():
    assert options.parent("results/a/records/uniref50/counts.json", 2) == "results/a/records"
    assert options.parent("results/a/split/counts.json") == "results/a/split"


@pytest.mark.parametrize(
    ("blocks", "name"),
    [
        ({"embed": {"fasta": "a{b}.fasta"}}, "embed.fasta"),
        ({"release": {"purge_lists": ["a.txt", "b}.txt"]}}, "release.purge_lists"),
        ({"report": {"title": "{title}"}}, "report.title"),
    ],
)
def test_braces_are_refused_in_one_line(blocks, name):
    with pytest.raises(UserError, match=rf"{name} is '.*', and Snakemake takes braces for wildcards; rename it"):
        options.refuse_braces(config(**blocks), "checkout")
    options.refuse_braces(config(embed={"fasta": "a (1) $x;'.fasta"}), "/my (odd) $dir; é")
    with pytest.raises(
        UserError, match=r"the checkout is '/a\{b\}', and Snakemake takes braces for wildcards; rename it"
    ):
        options.refuse_braces(config(), "/a{b}")
