"""The whole command: outputs, resume, refusals, and losses that are those of a plain transformers + peft loop."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from forked import Forked
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from unirefine.cli.main import main
from unirefine.config import Finetune
from unirefine.finetune import model as models
from unirefine.finetune.split import Split
from unirefine.finetune.table import read
from unirefine.finetune.tasks import find
from unirefine.finetune.train import accelerator, train

torch.set_num_threads(1)


OPTIONS = ("--device", "cpu", "--epochs", "3", "--lr", "2e-3", "--set", "batch=8", "--set", "checkpoint_every=2")


def command(small_esm2, tables, name, output, *more):
    return [
        "finetune",
        "--model",
        str(small_esm2[0]),
        "--table",
        str(tables / name),
        "--output",
        str(output),
        *OPTIONS,
        *more,
    ]


@pytest.fixture(scope="module")
def finished(small_esm2, tables, tmp_path_factory):
    """A finished run of numbers with adapters, merged too."""
    output = tmp_path_factory.mktemp("runs") / "number"
    assert main(command(small_esm2, tables, "number.csv", output, "--merge")) == 0
    return output


def test_what_is_written(finished, tables, capsys):
    result = json.loads((finished / "finetune.json").read_text())
    (split,) = result["splits"]
    (one,) = split["results"]
    assert split["leaks"] == 0 and list(one["models"]) == [
        "fine-tuned model", "nearest neighbour", "composition", "frozen embeddings",
    ]  # fmt: skip
    sides = pl.read_parquet(finished / "split.parquet")
    assert sides.group_by("cluster").agg(pl.col("homology").n_unique())["homology"].to_list().count(1) == 14
    assert result["sequences"]["clusters"] == 14
    page = (finished / "report.html").read_text()
    assert all(name in page for name in one["models"]) and page.count("<svg") == 2  # no relatives in train
    assert not list(finished.glob("*.safetensors"))
    # the composition decides these labels, and its ridge finds that
    assert one["models"]["composition"]["r2"]["value"] > 0.99
    predictions = pl.read_parquet(finished / "predictions.parquet")
    measured, predicted = (predictions[name].cast(pl.Float64).to_numpy() for name in ("measured", "predicted"))
    rmse = np.sqrt(np.mean((measured - predicted) ** 2))
    assert one["models"]["fine-tuned model"]["rmse"]["value"] == pytest.approx(rmse, abs=1e-5)
    assert main(["predict", "--model", str(finished), "--fasta", str(tables / "all.fasta"), "--device", "cpu"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["id", "length", "label", "truncated"] and len(rows) == 43
    again = {row[0]: float(row[2]) for row in rows[1:]}
    assert [again[name] for name in predictions["id"]] == pytest.approx(predicted, abs=1e-5)


def test_the_merged_export_opens_with_transformers(finished, tables):
    model = AutoModelForSequenceClassification.from_pretrained(finished / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "merged")
    data = read(tables / "number.csv")
    predictions = pl.read_parquet(finished / "predictions.parquet")
    for name, predicted in predictions.select("id", "predicted").head(3).iter_rows():
        inputs = tokenizer(data.sequences[data.ids.index(name)], return_tensors="pt")
        assert model(**inputs).logits.item() == pytest.approx(float(predicted), abs=1e-4)


def test_the_merged_export_is_embedded(finished, tables, tmp_path):
    fasta, output = str(tables / "all.fasta"), str(tmp_path / "vectors")
    assert main(["embed", "--model", str(finished / "merged"), "--fasta", fasta, "--output", output]) == 0
    row = pl.read_parquet(tmp_path / "vectors/sequences.parquet").row(0, named=True)
    data = read(tables / "number.csv")
    body = AutoModelForSequenceClassification.from_pretrained(finished / "merged").eval().esm
    inputs = AutoTokenizer.from_pretrained(finished / "merged")(
        data.sequences[data.ids.index(row["id"])], return_tensors="pt"
    )
    with torch.no_grad():
        mean = body(**inputs).last_hidden_state[0, 1:-1].mean(0).numpy()
    assert row["vector"] == pytest.approx(mean, abs=1e-4)


def test_the_adapter_opens_with_peft(finished, tables):
    from peft import AutoPeftModelForSequenceClassification

    model = AutoPeftModelForSequenceClassification.from_pretrained(finished / "model", num_labels=1).eval()
    merged = AutoModelForSequenceClassification.from_pretrained(finished / "merged").eval()
    inputs = AutoTokenizer.from_pretrained(finished / "model")("MKVLAWGGH", return_tensors="pt")
    assert model(**inputs).logits.item() == pytest.approx(merged(**inputs).logits.item(), abs=1e-5)


def test_a_base_that_was_a_classifier_gets_the_tasks_own_head(small_esm2, tables, tmp_path):
    """Its config says so, with the names of its classes, also where its head is gone."""
    base = shutil.copytree(small_esm2[0], tmp_path / "base")
    facts = json.loads((base / "config.json").read_text())
    facts |= {"problem_type": "single_label_classification", "id2label": {"0": "a", "1": "b", "2": "c"}}
    facts |= {"label2id": {"a": 0, "b": 1, "c": 2}, "architectures": ["EsmForSequenceClassification"]}
    facts.pop("rope_theta", None)  # published ones have none
    facts.pop("rope_parameters", None)
    (base / "config.json").write_text(json.dumps(facts))
    targets = find(read(tables / "number.csv"), [], "auto", [])
    model = models.build(base, targets, Finetune(mode="frozen"), "base")
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
    assert model.config.id2label == {0: "label"}


@pytest.mark.parametrize("name", ["facebook/esm2_t6_8M_UR50D", "/elsewhere/model"])
def test_an_adapter_names_its_base_as_it_was_given(name, small_esm2, tables, tmp_path, monkeypatch, recwarn):
    directory, _ = small_esm2  # where the hub's files lie, or a path from this directory
    monkeypatch.chdir(directory.parent)
    targets = find(read(tables / "number.csv"), [], "auto", [])
    made = models.build(Path(directory.name), targets, Finetune(), name)
    models.export(made, tmp_path / "model", targets, Finetune(), name, merge=False)
    assert json.loads((tmp_path / "model/adapter_config.json").read_text())["base_model_name_or_path"] == name
    assert not [one for one in recwarn if "base_model_name_or_path" in str(one.message)]


def test_a_killed_run_goes_on_with_the_same_losses(finished, small_esm2, tables, tmp_path):
    output = tmp_path / "killed"
    words = command(small_esm2, tables, "number.csv", output, "--merge")
    process = Forked("unirefine", words, environment=None)
    deadline = time.monotonic() + 120
    while not (output / "state.safetensors").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.kill()
    assert not (output / "finetune.json").exists()
    assert main(words) == 0
    assert (output / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert (output / "model/adapter_model.safetensors").read_bytes() == (
        finished / "model/adapter_model.safetensors"
    ).read_bytes()


def test_what_is_refused(finished, small_esm2, tables, tmp_path, capsys):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/notes.txt").write_text("mine")
    cases = [
        (command(small_esm2, tables, "number.csv", finished, "--seed", "3"), "other settings: seed was 0, and is 3"),
        (command(small_esm2, tables, "class.csv", finished, "--merge"), "other settings: another table"),
        (command(small_esm2, tables, "number.csv", tables), "holds an input"),
        (command(small_esm2, tables, "number.csv", tmp_path / "theirs"), "no fine-tuning has written (notes.txt)"),
        (
            command(small_esm2, tables, "number.csv", tmp_path / "new", "--split", "fold"),
            "no column 'fold' for --split",
        ),
        (command(small_esm2, tables, "number.csv", tmp_path / "n2", "--set", "adapted=[kex]"), "finetune.adapted"),
        (command(small_esm2, tables, "number.csv", tmp_path / "n3", "--folds", "2"), "at least 3"),
        (command(small_esm2, tables, "number.csv", tmp_path / "n4", "--mode", "half"), "finetune.mode"),
        (["predict", "--model", str(tables), "--fasta", str(tables / "all.fasta")], "no fine-tuned model in it"),
        (["predict", "--model", str(finished), "--fasta", str(tables / "all.fasta"), "--residues"], "whole sequences"),
        (
            ["predict", "--model", str(finished), "--fasta", str(tables / "all.fasta"), "--output", "x.txt"],
            "end it in .csv, .tsv, .parquet",
        ),
    ]
    for words, said in cases:
        assert main(words) == 1, words
        shown = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
        assert len(shown) == 1 and said in shown[0], shown
    assert main(command(small_esm2, tables, "number.csv", finished, "--merge")) == 0
    assert "already finished" in capsys.readouterr().out


def test_a_damaged_model_is_refused(finished, tables, tmp_path, capsys):
    import shutil

    for name, change, said in (
        ("adapter_model.safetensors", None, "no adapter_model.safetensors"),
        ("unirefine-task.json", b'{"targets": "x"}', "unirefine-task.json: not what this version writes: targets"),
        ("unirefine-task.json", b"{", "not valid JSON"),
        ("adapter_model.safetensors", b"x" * 100, "damaged or incomplete (100 bytes"),
    ):
        directory = tmp_path / f"{name}-{len(change or b'')}"
        shutil.copytree(finished / "model", directory)
        (directory / name).unlink() if change is None else (directory / name).write_bytes(change)
        assert (
            main(["predict", "--model", str(directory), "--fasta", str(tables / "all.fasta"), "--device", "cpu"]) == 1
        )
        shown = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
        assert len(shown) == 1 and said in shown[0], shown


def test_residues_in_folds_and_their_mean(small_esm2, tables, tmp_path):
    output = tmp_path / "residue"
    words = command(small_esm2, tables, "residue.csv", output, "--mode", "full", "--folds", "3")
    assert main([*words, "--target", "label"]) == 0
    tested = pl.read_parquet(output / "predictions.parquet")
    assert sorted(tested["id"]) == sorted(read(tables / "residue.csv").ids)
    out = tmp_path / "residues.parquet"
    fasta = str(tables / "all.fasta")
    assert main(["predict", "--model", str(output), "--fasta", fasta, "--residues", "--output", str(out)]) == 0
    rows = pl.read_parquet(out)
    assert len(rows) == 42 * 44 and rows.columns == ["id", "position", "residue", "label", "label=+", "label=-"]
    tokenizer = AutoTokenizer.from_pretrained(output / "fold-1/model")
    inputs = tokenizer("".join(rows["residue"][:44]), return_tensors="pt")
    with torch.no_grad():
        folds = [AutoModelForTokenClassification.from_pretrained(output / f"fold-{n}/model").eval() for n in (1, 2, 3)]
        mean = torch.stack([fold(**inputs).logits[0, 1:-1].softmax(-1)[:, 0] for fold in folds]).mean(0)
    assert rows["label=+"][:44].to_numpy() == pytest.approx(mean.numpy(), abs=1e-5)


def test_several_targets_with_missing_labels_in_the_folds_of_a_column(small_esm2, tables, tmp_path, capsys):
    columns = {"number": "label", "class": "label"}
    data = {name: read(tables / f"{name}.csv").columns[column] for name, column in columns.items()}
    base = read(tables / "number.csv")
    lines = ["mutant,mutated_sequence,number,class,fold_modulo_5"]
    for at, (name, sequence) in enumerate(zip(base.ids, base.sequences, strict=True)):
        number = "" if at % 7 == 0 else data["number"][at]
        lines.append(f"{name},{sequence},{number},{data['class'][at]},{at % 3}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    words = command(small_esm2, tmp_path, "t.csv", tmp_path / "out", "--split", "fold_modulo_5", "--mode", "frozen")
    assert main([*words, "--target", "number", "class", "--set", "class_weights=balanced"]) == 0
    (split,) = json.loads((tmp_path / "out/finetune.json").read_text())["splits"]
    assert [(one["target"], one["sequences"]) for one in split["results"]] == [("number", 36), ("class", 42)]
    assert split["test"] == 42 and split["leaks"] > 20 and len(split["parts"]) == 3
    assert all(one["models"]["composition"][one["primary"]]["interval"] for one in split["results"])
    assert "number: numbers (regression); 36 labelled, 6 without a label" in capsys.readouterr().out
    assert (
        main(["predict", "--model", str(tmp_path / "out"), "--fasta", str(tables / "all.fasta"), "--device", "cpu"])
        == 0
    )
    header = capsys.readouterr().out.splitlines()[0]
    assert header == "id,length,number,number deviation,class,class=a,class=b,truncated"


def test_sets_of_classes_from_the_table_to_the_page(small_esm2, tables, tmp_path, capsys):
    output = tmp_path / "sets"
    assert main(command(small_esm2, tables, "sets.csv", output, "--mode", "frozen", "--folds", "3")) == 0
    data = read(tables / "sets.csv")
    unlabelled = data.columns["label"].count("")
    said = capsys.readouterr().out
    assert "sets of classes (multilabel, 3): much K, much L, much W" in said and f"{unlabelled} without a label" in said
    (split,) = json.loads((output / "finetune.json").read_text())["splits"]
    (one,) = split["results"]
    assert one["primary"] == "auroc" and one["sequences"] == 42 - unlabelled and len(one["models"]) == 4
    assert all(row["auroc"]["interval"] for row in one["models"].values())
    tested = pl.read_parquet(output / "predictions.parquet")
    written = dict(zip(data.ids, data.columns["label"], strict=True))
    assert {name: written[name] for name in tested["id"]} == dict(tested.select("id", "measured").iter_rows())
    page = (output / "report.html").read_text()
    assert page.count("<svg") == 3 and "Of what has a class (counts in brackets)" in page  # none has a train relative
    assert "share that has the class" in page and "Rows: what was measured" not in page

    words = ["predict", "--model", str(output), "--fasta", str(tables / "all.fasta"), "--output"]
    assert main([*words, str(tmp_path / "p.csv"), "--device", "cpu"]) == 0
    table = pl.read_csv(tmp_path / "p.csv")
    classes = ["much K", "much L", "much W"]
    assert table.columns == ["id", "length", "label", *(f"label={one}" for one in classes), "truncated"]
    folds = [AutoModelForSequenceClassification.from_pretrained(output / f"fold-{n}/model").eval() for n in (1, 2, 3)]
    assert {fold.config.problem_type for fold in folds} == {"multi_label_classification"}
    tokenizer = AutoTokenizer.from_pretrained(output / "fold-1/model")
    with torch.no_grad():
        inputs = tokenizer(data.sequences, return_tensors="pt")
        found = torch.stack([fold(**inputs).logits.sigmoid() for fold in folds]).numpy()
    means = table.select(f"label={one}" for one in classes).to_numpy()
    assert table["id"].to_list() == data.ids and means == pytest.approx(found.mean(axis=0), abs=1e-5)
    named = [";".join(one for one, value in zip(classes, row, strict=True) if value >= 0.5) for row in means]
    assert table["label"].fill_null("").to_list() == named
    rows = [data.ids.index(name) for name in tested["id"]]
    scores = np.array([found[int(fold[-1]) - 1, row] for fold, row in zip(tested["fold"], rows, strict=True)])
    truth = np.array([[one in written[name].split(";") for one in classes] for name in tested["id"]])
    assert one["models"]["fine-tuned model"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)


def test_variants_of_one_protein_are_split_by_position(small_esm2, tmp_path, capsys):
    """A deep mutational scan: one cluster, so no split by homology."""
    wild = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQ"
    rows = [f"{wild[:at]}{new}{wild[at + 1 :]},{'AGW'.index(new) + at / 40}" for at in range(1, 31) for new in "GW"]
    (tmp_path / "t.csv").write_text("\n".join(["mutated_sequence,DMS_score", *rows]) + "\n")
    words = command(small_esm2, tmp_path, "t.csv", tmp_path / "out", "--mode", "frozen")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "1 cluster of similar sequences for train, validation and test" in said and "--split contiguous" in said
    assert main([*words[:-2], "--mode", "frozen", "--split", "random", "--output", str(tmp_path / "random")]) == 0
    said = capsys.readouterr().out
    assert "There is no split by homology to compare with" in said and "split by position (modulo)" in said
    result = json.loads((tmp_path / "random/finetune.json").read_text())
    assert [(split["method"], len(split["parts"])) for split in result["splits"]] == [("random", 1), ("modulo", 5)]
    random, modulo = (split["results"][0] for split in result["splits"])
    assert [random["resampled"], modulo["resampled"]] == ["positions", "positions"]
    assert modulo["groups"] == 30 and modulo["sequences"] == 59
    assert "Not tested, as they change positions of several folds or of none: 1." in said  # the wild type
    assert all(one["models"]["composition"]["spearman"]["interval"] for one in (random, modulo))
    page = (tmp_path / "random/report.html").read_text()
    assert "over resampled positions of one protein" in page


def test_a_random_split_shows_the_gap(small_esm2, tables, tmp_path, capsys):
    output = tmp_path / "random"
    assert main(command(small_esm2, tables, "class.csv", output, "--split", "random", "--mode", "frozen")) == 0
    result = json.loads((output / "finetune.json").read_text())
    assert [split["method"] for split in result["splits"]] == ["random", "homology"]
    assert result["splits"][0]["leaks"] > 0 and result["splits"][1]["leaks"] == 0
    assert "The gap:" in capsys.readouterr().out and "The gap" in (output / "report.html").read_text()
    model = AutoModelForSequenceClassification.from_pretrained(output / "model")
    assert model.config.id2label == {0: "a", 1: "b"}


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_losses_are_those_of_a_plain_loop(mode, small_esm2, tables, tmp_path):
    """50 steps written without anything of ours but the order of the rows."""
    from peft import LoraConfig, get_peft_model

    directory, _ = small_esm2
    data = read(tables / "class.csv")
    targets = find(data, [], "auto", [])
    rows = np.arange(len(data.ids))
    split = Split("", rows[:20], rows[20:30], rows[30:])
    config = Finetune(mode=mode, batch=2, epochs=5, patience=5, lr=1e-3, warmup=0.1, seed=3)
    ours = models.build(directory, targets, config, str(directory))
    done = train(ours, data.sequences, targets, split, config, tmp_path, accelerator("cpu", "fp32"))
    losses = [line["loss"] for line in done.history if "loss" in line]

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
    if mode == "lora":
        settings = LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "key", "value"],
            modules_to_save=["classifier"],
        )  # fmt: skip
        model = get_peft_model(model, settings)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: (s + 1) / 5 if s < 5 else (50 - s) / 45)
    model.train()
    theirs = []
    for epoch in range(5):
        order = np.random.Generator(np.random.Philox([3, epoch])).permutation(20)
        for first in range(0, 20, 2):
            chosen = order[first : first + 2]
            tokens = [[0, *("....LAGVSERTIDPKQNFYMHWC".index(x)
                           for x in data.sequences[row]), 2] for row in chosen]  # fmt: skip
            labels = torch.tensor([["a", "b"].index(data.columns["label"][row]) for row in chosen])
            ids = torch.tensor(tokens)  # all have one length
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            theirs.append(loss.item())
    assert len(losses) == 50 and losses == pytest.approx(theirs, abs=1e-5)
