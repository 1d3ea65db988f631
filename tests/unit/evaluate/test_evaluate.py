"""The stage against EsmForMaskedLM, called on one sequence at a time."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from unirefine.cli.main import main
from unirefine.config import PRESETS, Evaluate, Sampling, Train
from unirefine.core.ids import key_of
from unirefine.core.summaries import beaten_text
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.evaluate import run as stage
from unirefine.evaluate.masked import MaskedSide
from unirefine.evaluate.render import lines
from unirefine.evaluate.score import pseudo_nll, score
from unirefine.files.atomic import read_json, write_json
from unirefine.files.hashes import sha256_file
from unirefine.model.inference import open_huggingface, open_megatron
from unirefine.sampling import fixed_batch

CONFIG = Evaluate(seed=2, masking={"max_tokens": 60}, batch_tokens=512)


@pytest.fixture(scope="module")
def plain_nll(written, small_esm2) -> list[tuple[int, int, float, int]]:
    """(sequence, target, nll, token shown) of every chosen residue: EsmForMaskedLM on one sequence after another."""
    side, model, config = open_shards(written.directory).validation, small_esm2[1], CONFIG
    found = []
    for sequence in range(side.sequences):
        sampling = Sampling(**config.masking.model_dump())
        batch = fixed_batch(side, np.array([sequence]), config.seed, sampling)
        tokens = torch.from_numpy(batch.tokens.astype(np.int64))
        with torch.no_grad():
            logits = model(tokens, attention_mask=torch.ones_like(tokens)).logits[0]
        for position in np.flatnonzero(batch.labels[0] >= 0):
            target = int(batch.labels[0, position])
            nll = -float(logits[position].log_softmax(-1)[target])
            found.append((sequence, target, nll, int(batch.tokens[0, position])))
    return found


def test_perplexity_equals_a_plain_loop_over_sequences(written, small_esm2, tmp_path, plain_nll):
    directory, expected = small_esm2[0], plain_nll
    result = stage.run(written.directory, [directory], tmp_path, CONFIG)
    perplexity = np.exp(np.mean([nll for _, _, nll, _ in expected]))
    rows = {row["key"]: row for row in result["table"]}
    assert list(rows) == ["ours", "huggingface", "composition", "neighbours", "bigram", "unigram"]
    assert rows["huggingface"]["perplexity"] == pytest.approx(perplexity, rel=1e-5)
    assert rows["ours"]["perplexity"] == pytest.approx(perplexity, rel=1e-5)
    assert rows["ours"]["masked"] == rows["huggingface"]["masked"] == result["masked"] == len(expected)
    assert abs(result["parity"][0]["relative_difference"]) < 1e-5
    assert result["parity"][0]["largest_nll_difference"]["nats"] < 1e-3
    residues = {row["bin"]: row for row in result["breakdowns"]["residue"]}
    alanines = [nll for _, target, nll, shown in expected if target == 5 and shown == 32]
    assert residues["A"]["residues"] == len(alanines)
    assert residues["A"]["ours"] == pytest.approx(np.exp(np.mean(alanines)), rel=1e-4)
    low, high = residues["A"]["intervals"]["ours"]
    assert low < residues["A"]["ours"] < high
    assert read_json(tmp_path / "perplexity.json") == json.loads(json.dumps(result))
    proteins = pq.read_table(tmp_path / "proteins.parquet")
    sums = np.zeros(len(proteins))
    for sequence, _target, nll, shown in expected:
        sums[sequence] += nll * (shown == 32)
    np.testing.assert_allclose(proteins["nll huggingface"], sums, atol=1e-3)
    side = open_shards(written.directory).validation
    assert list(zip(proteins["id"].to_pylist(), proteins["cluster_id"].to_pylist(), strict=True)) == [
        side.ids(number) for number in range(side.sequences)
    ]
    assert sum(proteins["hidden"].to_pylist()) == result["hidden"]


def test_hidden_kept_and_random_residues_are_measured_apart(written, small_esm2, tmp_path, plain_nll):
    result = stage.run(written.directory, [small_esm2[0]], tmp_path, CONFIG)
    kinds = {
        "hidden": [nll for _, _, nll, shown in plain_nll if shown == 32],
        "kept": [nll for _, target, nll, shown in plain_nll if shown == target],
        "random": [nll for _, target, nll, shown in plain_nll if shown not in (32, target)],
    }
    assert sum(map(len, kinds.values())) == result["masked"] == len(plain_nll)
    for kind, values in kinds.items():
        assert result[kind] == len(values) > 0
        for row in result["table"][:2]:
            measured = row[kind]
            assert measured["residues"] == len(values)
            assert measured["perplexity"] == pytest.approx(np.exp(np.mean(values)), rel=1e-5)
            assert measured["interval"][0] < measured["perplexity"] < measured["interval"][1]
    for row in result["table"][2:]:  # baselines are measured where they are asked the same as a model
        assert not row.keys() & {"perplexity", "interval", "masked", "kept", "random", "ratio"}
        ratio = result["table"][0]["hidden"]["perplexity"] / row["hidden"]["perplexity"]
        assert row["hidden"]["ratio"] == pytest.approx(ratio)


def test_without_hidden_residues_there_is_no_ratio(written, small_esm2, tmp_path):
    masking = {"max_tokens": 60, "mask_token_fraction": 0, "random_tokens": "amino_acids"}
    config = Evaluate(seed=2, masking=masking, huggingface=False)
    result = stage.run(written.directory, [small_esm2[0]], tmp_path, config)
    assert result["hidden"] == 0 and result["kept"] + result["random"] == result["masked"]
    assert all(row["hidden"]["perplexity"] is None for row in result["table"])
    assert "No residue is hidden, so nothing says whether the model is better than a baseline." in lines(result)


@pytest.mark.parametrize(
    ("high", "text"),
    [
        ({}, "ours is better than every baseline where the residue is hidden: bigram, unigram."),
        ({"bigram": 1.0}, "ours is NOT better than bigram where the residue is hidden, but better than unigram."),
        (
            {"bigram": 1.2, "unigram": 1.1},
            "ours is NOT better than any baseline where the residue is hidden: bigram, unigram.",
        ),
    ],
)
def test_which_baselines_are_beaten_is_said(high, text):
    table = [{"key": "ours", "model": "ours", "perplexity": 7.0, "hidden": {}}]
    for name in ("bigram", "unigram"):
        hidden = {"ratio": 0.9, "ratio_interval": [0.8, high.get(name, 0.999)]}
        table.append({"key": name, "model": name, "hidden": hidden})
    assert beaten_text({"table": table}) == text


@pytest.mark.parametrize("batch_tokens", [64, 100_000])
@pytest.mark.parametrize("opened", [open_megatron, open_huggingface])
def test_nll_does_not_depend_on_the_batches(written, small_esm2, opened, batch_tokens, plain_nll):
    directory, expected = small_esm2[0], plain_nll
    side = MaskedSide(open_shards(written.directory).validation, CONFIG)
    positions = side.positions()
    nll, _seconds = score(opened(directory), side, positions, batch_tokens)
    assert positions.sequence.tolist() == [sequence for sequence, _, _, _ in expected]
    assert positions.target.tolist() == [target for _, target, _, _ in expected]
    assert positions.shown.tolist() == [shown for _, _, _, shown in expected]
    np.testing.assert_allclose(nll, [nll for _, _, nll, _ in expected], atol=1e-4)


def test_positions_have_the_true_neighbours(written):
    side = open_shards(written.directory).validation
    positions = MaskedSide(side, CONFIG).positions()
    flat = [sequence for members in written.validation for sequence in members]
    assert len({positions.residue[i] + 1 == len(flat[s]) for i, s in enumerate(positions.sequence)}) == 2
    for i, number in enumerate(positions.sequence):
        whole = [0, *flat[number].tolist(), 2]
        at = positions.residue[i] + 1
        assert (positions.left[i], positions.target[i], positions.right[i]) == tuple(whole[at - 1 : at + 2])


def test_the_mask_does_not_depend_on_the_number_of_sequences_but_on_the_seed(written):
    flat = [sequence for members in written.validation for sequence in members]
    side = open_shards(written.directory).validation
    whole = MaskedSide(side, CONFIG).positions()
    few = MaskedSide(side, CONFIG.model_copy(update={"sequences": 4})).positions()
    assert len(flat) > 4
    np.testing.assert_array_equal(whole.residue[: len(few.residue)], few.residue)
    other = MaskedSide(side, CONFIG.model_copy(update={"seed": 3})).positions()
    assert whole.residue.tolist() != other.residue.tolist()


def test_models_that_differ_fail_in_one_line_and_write_nothing(written, small_esm2, tmp_path, capsys):
    directory, _model = small_esm2
    final = tmp_path / "final"
    for layout in ("huggingface", "other"):
        (final / layout).mkdir(parents=True)
        (final / layout / "config.json").write_text((directory / "config.json").read_text())
        weights = load_file(directory / "model.safetensors")
        if layout == "other":
            weights["lm_head.bias"][7] += 1
        save_file(weights, final / layout / "model.safetensors", metadata={"format": "pt"})
    megatron_checkpoint(final / "other", final / "megatron")
    output = tmp_path / "out"
    arguments = ["evaluate", "--shards", str(written.directory), "--model", str(final), "--output", str(output)]
    assert main([*arguments, "--set", "masking.max_tokens=60"]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
    assert "the difference is above the tolerance 0.002" in line and "residue" in line
    assert not output.exists()
    assert main([*arguments, "--set", "masking.max_tokens=60", "--set", "tolerance=10"]) == 0
    assert "ESM-2 (Megatron-core)" in capsys.readouterr().out


def megatron_checkpoint(huggingface, directory) -> None:
    from unirefine.model import checkpoint

    checkpoint.save(directory, open_megatron(huggingface).model)


def test_cluster_sizes_and_identities_come_from_their_stages(written, small_esm2, tmp_path):
    side = open_shards(written.directory).validation
    ids = {side.ids(i)[1].removeprefix("UniRef50_"): i for i in range(side.sequences)}
    rows = sorted((key_of(name), name) for name in [*ids, "Q99999", "A00001"])
    sizes = {name: 1 + number % 3 for number, (_, name) in enumerate(rows)}
    keys, counts = (
        pa.array([key for key, _ in rows], pa.uint64()),
        pa.array([sizes[name] for _, name in rows], pa.uint32()),
    )
    pq.write_table(pa.table({"key": keys, "size": counts}), tmp_path / "clusters.parquet")
    longest = side.ids(int(side.lengths.argmax()))[1].removeprefix("UniRef50_")
    target = next(number for number, (_, name) in enumerate(rows) if name == longest)
    (tmp_path / "nearest").mkdir()
    for part, (all_, searched) in enumerate([(0.91, 0.41), (0.55, 0.25)]):
        target_identity = {
            "target": pa.array([target], pa.uint32()),
            "all": [all_],
            "searched": [searched],
            "audited": [0.1],
        }
        pq.write_table(pa.table(target_identity), tmp_path / "nearest" / f"part-{part:03d}-of-002.parquet")
    (tmp_path / "identity.json").write_text(json.dumps({"audit": {"policy": "error"}}))
    result = stage.run(
        written.directory, [small_esm2[0]], tmp_path / "out", CONFIG, clusters=tmp_path, decontaminated=tmp_path
    )
    by_size = {row["bin"]: row["residues"] for row in result["breakdowns"]["cluster_size"]}
    assert sum(by_size.values()) == result["hidden"] and set(by_size) == {"1", "2", "3-4"}
    by_identity = {row["bin"]: row["sequences"] for row in result["breakdowns"]["identity"]}
    assert set(by_identity) == {"0.4-0.5", "no hit"}
    assert by_identity["0.4-0.5"] <= sum(side.ids(i)[1] == f"UniRef50_{longest}" for i in range(side.sequences))
    pq.write_table(
        pa.table({"key": pa.array([5], pa.uint64()), "size": pa.array([1], pa.uint32())}), tmp_path / "clusters.parquet"
    )
    with pytest.raises(UserError, match="a validation cluster is not in it"):
        stage.run(written.directory, [small_esm2[0]], tmp_path, CONFIG, clusters=tmp_path)


def test_pseudo_perplexity_masks_one_residue_at_a_time(written, small_esm2):
    directory, model = small_esm2
    sequences = [members[0] for members in written.validation[:3]]
    found = pseudo_nll(open_megatron(directory), sequences, batch_tokens=200)
    for sequence, nll in zip(sequences, found, strict=True):
        assert len(nll) == len(sequence)
        for residue, value in enumerate(nll):
            tokens = torch.tensor([[0, *sequence.tolist(), 2]])
            tokens[0, residue + 1] = 32
            with torch.no_grad():
                logits = model(tokens, attention_mask=torch.ones_like(tokens)).logits[0, residue + 1]
            assert value == pytest.approx(-float(logits.log_softmax(-1)[int(sequence[residue])]), abs=1e-4)


def test_before_and_after_are_measured_at_the_same_residues_of_every_set(written, small_esm2, tmp_path):
    directory = small_esm2[0]
    ignorant = shutil.copytree(directory, tmp_path / "ignorant")
    weights = load_file(ignorant / "model.safetensors")
    for name in ("lm_head.layer_norm.weight", "lm_head.layer_norm.bias", "lm_head.bias"):
        weights[name].zero_()  # so that all logits are 0, and the perplexity is the number of tokens
    save_file(weights, ignorant / "model.safetensors")
    sets = {"general": written.directory}
    result = stage.run(written.directory, [directory], tmp_path / "out", CONFIG, before=ignorant, sets=sets)
    own, general = result["continued"]["sets"]
    assert (own["set"], general["set"], own["clusters"]) == ("validation", "general", 25)
    for kind, measured in (("all", result["table"][0]), ("hidden", result["table"][0]["hidden"])):
        assert own[kind] == general[kind]
        assert own[kind]["after"] == {key: measured[key] for key in ("perplexity", "interval")}
        assert own[kind]["before"]["perplexity"] == pytest.approx(33, rel=1e-5)
        assert own[kind]["ratio"] == pytest.approx(measured["perplexity"] / 33, rel=1e-5)
    assert own["hidden"]["residues"] == result["hidden"] < own["all"]["residues"] == result["masked"]
    assert read_json(tmp_path / "out/perplexity.json")["continued"] == result["continued"]
    with pytest.raises(UserError, match="validation set general: no such directory"):
        stage.run(written.directory, [directory], tmp_path / "out", CONFIG, sets={"general": tmp_path / "none"})


def test_several_checkpoints_and_published_values_share_one_table(written, small_esm2, tmp_path):
    """The model card has a row per checkpoint, with the value published for its name."""
    copy = shutil.copytree(small_esm2[0], tmp_path / "second")
    config = CONFIG.model_copy(update={"published": {"second": 6.95, "650M": 7.0}})
    result = stage.run(written.directory, [small_esm2[0], copy], tmp_path / "out", config)
    labels = [row["model"] for row in result["table"]]
    assert sum("Megatron-core" in label for label in labels) == 2
    first, second = result["parity"]
    assert (first["published"], second["published"]) == (None, 6.95)
    assert first["difference"] == first["ours"] - first["huggingface"] and abs(first["difference"]) < 1e-4
    shown = [text.split("|")[1:-1] for text in lines(result) if text.startswith("|")]
    assert [cell.strip() for cell in shown[0]] == ["checkpoint", "Hugging Face", "ours", "Lin et al.", "difference"]
    rows = [[cell.strip() for cell in row] for row in shown[2:]]
    assert [(row[0], row[3]) for row in rows] == [(small_esm2[0].name, "-"), ("second", "6.95")]
    assert all(row[1] == row[2] == f"{first['ours']:.3f}" for row in rows)


def test_checkpoints_of_the_same_name_get_different_names(tmp_path):
    runs = [tmp_path / "one" / "train" / "final", tmp_path / "two" / "train" / "final", tmp_path / "two" / "esm2_8m"]
    assert list(stage.name_models(runs).values()) == ["one", "two", "esm2_8m"]
    same = [tmp_path / "one" / "esm2_8m", tmp_path / "two" / "esm2_8m"]
    assert list(stage.name_models(same).values()) == ["one/esm2_8m", "two/esm2_8m"]
    with pytest.raises(UserError, match="the same model twice"):
        stage.name_models([tmp_path / "one", tmp_path / "two" / ".." / "one"])


def test_without_hugging_face_there_is_nothing_to_compare(written, small_esm2, tmp_path):
    config = CONFIG.model_copy(update={"huggingface": False})
    result = stage.run(written.directory, [small_esm2[0]], tmp_path / "out", config)
    assert [row["key"] for row in result["table"]] == ["ours", "composition", "neighbours", "bigram", "unigram"]
    (row,) = result["parity"]
    assert row["huggingface"] is None and row["difference"] is None and row["ours"] > 1
    assert any(text.startswith(f"| {row['model']} | - | {row['ours']:.3f} | - | - |") for text in lines(result))


@pytest.mark.parametrize(("preset", "expected"), [("650M", 6.95), ("3B", 6.49), ("8M", None)])
def test_published_values_belong_to_presets(tmp_path, preset, expected):
    """Only the size decides, not the weights."""
    layers, hidden, heads = PRESETS[preset]
    sizes = {"layers": layers, "hidden": hidden, "heads": heads}
    (tmp_path / "complete.json").write_text(json.dumps({"format": 1, "model": sizes, "extra": {}, "dtype": "float32"}))
    assert stage._published(tmp_path, "mine", Evaluate().published) == expected


def test_a_directory_without_a_model_is_one_line(written, tmp_path):
    with pytest.raises(UserError, match="neither a training run, a complete checkpoint nor"):
        stage.run(written.directory, [tmp_path], tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match="no such directory"):
        stage.run(written.directory, [tmp_path / "none"], tmp_path / "out", CONFIG)


def test_a_file_of_somebody_else_is_not_replaced(written, small_esm2, tmp_path):
    (tmp_path / "perplexity.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"perplexity\.json: exists, and was not written by this command"):
        stage.run(written.directory, [small_esm2[0]], tmp_path, CONFIG)


def test_a_model_that_gives_no_numbers_is_one_line(written, small_esm2):
    engine = open_huggingface(small_esm2[0])
    engine.model.lm_head.bias.data[5] = float("nan")
    side = MaskedSide(open_shards(written.directory).validation, CONFIG)
    positions = side.positions()
    name = side.side.ids(int(positions.sequence[0]))[0]
    with pytest.raises(UserError, match=f"the model's output is not finite at protein {name}"):
        score(engine, side, positions, 4096)


def test_shards_that_have_changed_since_they_were_written_are_refused(written, small_esm2, tmp_path):
    shards = shutil.copytree(written.directory, tmp_path / "shards")
    path = next(shards.glob("train-*.bin"))
    file = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(shards / "manifest.json", read_json(shards / "manifest.json") | {"files": [file]})
    tokens = bytearray(path.read_bytes())
    tokens[5] = 4 if tokens[5] != 4 else 5
    path.write_bytes(tokens)
    with pytest.raises(UserError, match=r"train-000-of-002\.bin: its content is not what was written"):
        stage.run(shards, [small_esm2[0]], tmp_path / "out", Evaluate())


def test_baselines_are_measured_where_training_validated(written, small_esm2, tmp_path):
    directory = tmp_path / "final"
    shutil.copytree(small_esm2[0], directory)
    sampling = Sampling(max_tokens=40, seed=9, mask_token_fraction=0.5)
    trained = Train(sampling=sampling, validate_sequences=7).model_dump(mode="json")
    write_json(directory / "train.json", {"config": trained})
    config = CONFIG.model_copy(update={"huggingface": False})
    found = stage.run(written.directory, [directory], tmp_path / "out", config)["training_validation"]
    opened = open_shards(written.directory)
    batch = fixed_batch(opened.validation, np.arange(7), sampling.seed, sampling)
    hidden = (batch.labels >= 0) & (batch.tokens == 32)
    counts = np.ones(33)
    for members in written.train:
        for member in members:
            counts += np.bincount(member, minlength=33) / len(members)
    expected = -np.log(counts / counts.sum())[batch.labels[hidden]].mean()
    assert (found["sequences"], found["hidden"]) == (7, int(hidden.sum()))
    assert found["losses"]["unigram"] == pytest.approx(expected, rel=1e-6)
    assert list(found["losses"]) == ["composition", "neighbours", "bigram", "unigram"]


def test_proteins_of_somebody_else_stay(written, small_esm2, tmp_path):
    pq.write_table(pa.table({"id": ["P1"]}), tmp_path / "proteins.parquet")
    with pytest.raises(UserError, match=r"proteins\.parquet: exists, and was not written by this command"):
        stage.run(written.directory, [small_esm2[0]], tmp_path, CONFIG)
    assert not (tmp_path / "perplexity.json").exists()


@pytest.mark.parametrize("given", ["general", "=results/demo", "general=", "9=results/demo", "validation=results/demo"])
def test_a_further_set_has_a_name_of_its_own(given, capsys):
    words = ["--shards", "s", "--model", "m", "--output", "o", "--also", given]
    with pytest.raises(SystemExit):
        main(["evaluate", *words])
    assert given in capsys.readouterr().err.splitlines()[-1]
