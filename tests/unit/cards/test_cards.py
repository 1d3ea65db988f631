"""Cards of a small made-up run, read back by the Hub's own library."""

import json

import pytest
from huggingface_hub import DatasetCard, ModelCard

from unirefine.cards import run as stage
from unirefine.cli.main import main
from unirefine.config import Curate, Train
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.report.run import perplexity_lines

SIDE = {"shards": ["x"], "documents": 9, "sequences": 1200, "tokens": 5000, "longest": 80, "unknown": 1}
PUBLISHED = {"file": "uniref50.release_note", "what": "entries", "found": "12", "published": "9", "source": "a paper"}
RELEASE = {"source": "current", "release": "2026_03", "date": "2026-09-02"}
RELEASE |= {"entries": {"uniref50": 12}, "published": [PUBLISHED]}
FILE = {"file": "uniref50.xml.gz", "size": 5, "md5": "d41d8cd98f00b204e9800998ecf8427e", "url": "https://x"}
LEFT = {
    "sampled": 90,
    "similar": 7,
    "train": 90,
    "clusters": {"sampled": 40, "similar": 2, "train": 40, "low": 2, "high": 2},
}
SEARCHED = {"share": 1, "clusters": 40, "similar": 0, "train": 40, "low": 0, "high": 0}
AUDIT = {"hits": 0, "sampled_clusters": 40, "sampled_clusters_missed": 0, "members_left": LEFT, "searched": SEARCHED}
IDENTITY = {"level": "representatives", "threshold": 0.5, "coverage": 0.8, "search": {"coverage_mode": 0}, "test": None,
            "audit": AUDIT, "giants": dict.fromkeys(("train", "held_out", "pairs", "hits"), 0)}  # fmt: skip


HIDDEN = {"residues": 1000, "perplexity": 9.5, "interval": [9.1, 9.9]}
OURS = {
    "key": "ours", "model": "ESM-2 (Megatron-core)", "perplexity": 7.0014, "interval": [6.5, 7.5], "hidden": HIDDEN,
    "kept": {"perplexity": 1.2, "interval": [1.1, 1.3]}, "random": {"perplexity": None, "interval": None},
}  # fmt: skip
RATIO = {"ratio": 0.528, "ratio_interval": [0.511, 0.545]}
UNIGRAM = {"key": "unigram", "model": "unigram", "hidden": {"perplexity": 18.0, "interval": [17.9, 18.1]} | RATIO}
EVALUATION = {
    "table": [OURS, UNIGRAM], "masked": 1234, "hidden": 1000, "kept": 234, "random": 0, "sequences": 7,
}  # fmt: skip
MACHINE = {"after_step": 0, "date": "2026-09-02T10:15:00+00:00", "command": "snakemake -c2", "nodes": 1, "processes": 2,
           "cpu": "AMD EPYC", "cores": 4, "memory_bytes": 25300000000, "gpu": None, "gpus": 0}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    run = tmp_path / "tiny"
    counts = {"uniref50": {"in": 12, "kept": 9, "removed": {"artificial_taxon": 3}}}
    release = RELEASE | {"files": [FILE]}
    lineage.write(run / "shard", lineage.step("curate", Curate(), counts=counts), release=release)
    lineage.write(run / "train/final", lineage.step("train", Train(), packages=["torch"]), [run / "shard"])
    (run / "train/final/huggingface").mkdir()
    write_json(run / "shard/manifest.json", {"sides": {"train": SIDE, "validation": SIDE | {"sequences": 7}}})
    write_json(run / "decontaminate/identity.json", IDENTITY)
    trained = {"step": 30, "tokens": 4000, "parameters": 27681, "config": Train().model_dump(mode="json")}
    trained["hardware"] = [MACHINE]
    write_json(run / "train/final/train.json", trained)
    write_json(run / "evaluate/perplexity.json", EVALUATION)
    return run


def test_the_hub_reads_the_data_card(results):
    data, _model = stage.run(results, results / "cards")
    card = DatasetCard.load(data)
    assert data == results / "cards/data/README.md"
    assert card.data.license == "cc-by-4.0"
    assert card.data.size_categories == ["1K<n<10K"]
    for piece in (
        "UniProt 2026_03",
        "| train | 9 | 1,200 | 5,000 |",
        "artificial taxon 3",
        "| UniRef50 clusters | 9 (a paper) | 12 | 9 | after curation |",
        FILE["md5"],
        "Intended use",
    ):
        assert piece in card.text


@pytest.mark.parametrize(
    ("level", "text"),
    [("members", "Every member of the train"), ("representatives", "Only the representatives of the")],
)
def test_both_cards_claim_no_more_than_was_searched(results, level, text):
    write_json(results / "decontaminate/identity.json", IDENTITY | {"level": level})
    for path in stage.run(results, results / "cards"):
        card = path.read_text()
        assert text in card
        assert (
            "Of the 90 members of these clusters, 7 are similar to a held-out sequence; these are all of train." in card
        )


def test_the_hub_reads_the_model_card_and_its_perplexity(results):
    _data, model = stage.run(results, results / "cards")
    assert model == results / "cards/model/README.md"
    card = ModelCard.load(model)
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in card.data.eval_results] == [
        ("perplexity", "masked perplexity, all chosen residues", 7.0014),
        ("perplexity", "masked perplexity, hidden residues alone", 9.5),
    ]
    assert card.data.pipeline_tag == "fill-mask"
    for piece in (
        "| ESM-2 (Megatron-core) | 7.001 | 6.50 to 7.50 | 9.500 | 9.10 to 9.90 |  |",
        "| unigram |  |  | 18.000 | 17.90 to 18.10 | 0.528 (0.511 to 0.545) |",
        "is better than every baseline where the residue is hidden: unigram.",
        "1,000 hidden by the mask token (perplexity 9.50), 234 left as they are (perplexity 1.20) and 0 replaced by",
        "27,681 parameters",
        "Trained on 4 cores of AMD EPYC, 25.3 GB of memory, 2 processes; began 2026-09-02 10:15 UTC.",
        "1,234 residues",
        "Intended use",
    ):
        assert piece in card.text


def test_an_evaluation_of_an_older_version_is_one_line(results):
    old = {"key": "ours", "model": "ESM-2 (Megatron-core)", "perplexity": 7.0014, "interval": [6.5, 7.5]}
    write_json(results / "evaluate/perplexity.json", {"table": [old], "masked": 1234, "sequences": 7})
    with pytest.raises(
        UserError, match=r"perplexity\.json: it has no 'hidden'; delete it and run the evaluate stage again"
    ):
        stage.run(results, results / "cards")
    with pytest.raises(UserError, match=r"perplexity\.json: it has no 'hidden'"):
        perplexity_lines(results)


@pytest.mark.parametrize("url", ["in/lab.fasta", "lab.fasta"])
def test_sequences_of_your_own_keep_their_licence_and_have_nothing_of_uniref(results, url):
    own = {
        "source": "fasta",
        "release": None,
        "files": [FILE | {"file": "lab.fasta", "url": url}, FILE | {"file": "purge-0.txt", "url": "in/purge.txt"}],
    }
    for directory in ("shard", "train/final"):
        path = results / directory / lineage.FILE
        write_json(path, json.loads(path.read_text()) | {"release": own})
    data, model = stage.run(results, results / "cards")
    card = DatasetCard.load(data)
    assert "MMseqs2: Steinegger" in card.text and "| curate | curate" not in card.text
    assert card.data.license == "other" and card.data.tags == ["biology", "protein", "esm"]
    assert "from the FASTA lab.fasta as Megatron" in card.text and "a document per cluster" in card.text
    assert "| curate | clusters | 12 | 9 |" in card.text
    assert ModelCard.load(model).data.eval_results[0].dataset_type == "fasta"
    for path in (data, model):
        text = path.read_text()
        assert "CC BY" not in text and "UniRef" not in text and "UniProt" not in text


def test_before_the_evaluation_it_is_one_line(results):
    (results / "evaluate/perplexity.json").unlink()
    with pytest.raises(UserError, match=r"perplexity\.json: no such file; run the stage"):
        stage.run(results, results / "cards")
    assert not (results / "cards").exists()


def test_the_command_writes_into_a_directory_of_its_own_and_nowhere_else(results, capsys):
    before = set(results.rglob("*"))
    assert main(["cards", "--results", str(results)]) == 0
    new = {str(path.relative_to(results)) for path in results.rglob("*") if path not in before and path.is_file()}
    assert new == {"cards/.lock", "cards/data/README.md", "cards/model/README.md"}
    assert "`lineage.json` beside the weights" in (results / "cards/model/README.md").read_text()
    assert capsys.readouterr().out.count("wrote ") == 2


def test_a_data_set_of_ones_own_is_not_called_uniprots(results):
    own = {"source": "parquet", "release": None, "dataset": {"id": "mine", "revision": None}, "files": [FILE]}
    for directory in ("shard", "train/final"):
        path = results / directory / lineage.FILE
        write_json(path, json.loads(path.read_text()) | {"release": own})
    for path in stage.run(results, results / "cards"):
        text = path.read_text()
        assert "the data set mine" in text
        assert not any(word in text for word in ("CC BY", "UniProt", "- uniref", "type: uniref", "Suzek"))


@pytest.mark.parametrize(
    ("init", "base"),
    [(None, None), ("facebook/esm2_t33_650M_UR50D",) * 2, ("/data/run/final", None), ("a/b/c", None)],
)
def test_the_model_card_has_licence_and_base_model(results, init, base):
    path = results / "train/final/train.json"
    trained = json.loads(path.read_text())
    trained["config"]["init"] = init
    write_json(path, {key: value for key, value in trained.items() if key != "checksum"})
    card = ModelCard.load(stage.run(results, results / "cards")[1])
    assert (card.data.license, card.data.base_model) == ("unknown", base)
    for heading in ("Limitations", "Citation", "Licence"):
        assert f"\n## {heading}\n" in card.text
    assert "From random weights." in card.text if init is None else f"From `{init}`." in card.text


def test_records_says_which_level_and_there_is_one_column_of_hashes(results):
    path = results / "shard" / lineage.FILE
    found = json.loads(path.read_text())
    records = found["steps"][0] | {"stage": "records"}
    levels = [
        records | {"counts": {level: {"in": 12, "kept": 12, "removed": {}}}} for level in ("uniref50", "uniref90")
    ]
    found.pop("checksum")
    write_json(path, found | {"steps": levels})
    text = stage.run(results, results / "cards")[0].read_text()
    assert "| records, UniRef50 | UniRef50 clusters | 12 | 12 |" in text
    assert "| records, UniRef90 | UniRef90 sequences | 12 | 12 |" in text
    assert "| step | code |\n" in text


def test_names_of_others_stay_text(results, tmp_path):
    hostile = tmp_path / "a<script>`x`|b"
    results.rename(hostile)
    for path in stage.run(hostile, hostile / "cards"):
        heading = next(line for line in path.read_text().splitlines() if line.startswith("# "))
        assert heading.startswith("# a\\<script\\>\\`x\\`\\|b: ")
