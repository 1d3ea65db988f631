"""Several layers, logits, probabilities and contacts of proteins, in one pass through transformers' EsmForMaskedLM.

As fair-esm's `extract.py`. Like `embed.run` it works in chunks, which an interrupted job reuses and several processes
divide.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import numpy as np
import pyarrow as pa
import torch

from unirefine.config import Embed
from unirefine.core.alphabet import PAD, TOKENS, encode
from unirefine.core.fasta import Protein
from unirefine.embed.files import METADATA, Chunks, is_ours
from unirefine.embed.run import in_chunks, say
from unirefine.embed.source import Source
from unirefine.embed.vectors import budget
from unirefine.errors import UserError
from unirefine.files.outputs import refuse_overwriting
from unirefine.model.batching import length_buckets, with_special_tokens
from unirefine.model.inference import Share, layer_number, load_esm_for_masked_lm, not_finite, start
from unirefine.model.source import find, has_contact_head

INCLUDE = ("mean", "cls", "residues", "logits", "probabilities", "contacts")
"""What can be asked for. The first three are of each layer."""
OF_LAYERS = INCLUDE[:3]
KIND = "extract"
NAME = f"{KIND}.parquet"


def run(
    source: Source, model: Path, output: Path, config: Embed, *, layers: Sequence[int], include: Sequence[str]
) -> Path:
    """Write `output/extract.parquet`, a row per protein in input order, and return its path.

    Columns: id, length, truncated; `mean_<layer>` and `cls_<layer>`: float32[h]; `residues_<layer>`: float32[L, h];
    `logits` and `probabilities` over the 33 tokens: float32[L, 33]; `contacts`: float32[L, L]; L: embedded residues.
    model: what `model.source.find` takes. layers: 0 (embeddings) to the last, or negative from the end. include: of
    INCLUDE. Raises UserError.
    """
    if config.long_sequences == "windows" and (source.lengths > config.max_residues).any():
        raise UserError("--layers and --include do not join windows", fix="set embed.long_sequences to truncate")
    target = output / NAME
    refuse_overwriting({target: is_ours}, source.files)
    if "contacts" in include and not has_contact_head(model):
        raise UserError(
            "the checkpoint has no contact head", where=model,
            fix="leave out contacts, or fit a head first: unirefine evaluate contact-head",
        )  # fmt: skip
    head = not {"logits", "probabilities"}.isdisjoint(include)
    found = find(model, head=head)
    if platform.world_size() > 1:
        start()  # the processes divide the chunks, which needs a process group
    attention = "eager" if "contacts" in include else "sdpa"
    opened = load_esm_for_masked_lm(found.directory, config.precision, attention, head=head)
    say(found, "Hugging Face", config)
    numbers = list(dict.fromkeys(layer_number(layer, opened.config.num_hidden_layers) for layer in layers))
    facts: dict[str, Any] = {"layers": numbers, "include": list(include), "precision": config.precision}
    if found.hub is not None:
        facts["model"] = found.hub
    settings = config.model_dump(mode="json", include={"max_residues", "chunk_residues"})
    schema = _schema(opened.config.hidden_size, numbers, include, facts | {"tokens": TOKENS})
    chunks = Chunks(output, {"source": source.digest, "model": found.identity(), "config": [facts, settings]}, (KIND,))

    def compute(proteins: list[Protein], advance: Callable[[int], None]) -> dict[str, pa.Table]:
        rows = _rows(opened, proteins, config, numbers, include, advance)
        return {KIND: pa.Table.from_pylist(rows, schema=schema)}

    share = Share(number=platform.rank(), of=platform.world_size(), leads=True)
    embedded = source.lengths.clip(max=config.max_residues)
    count, _resumed = in_chunks(source, embedded, chunks, config.chunk_residues, share, compute)
    if platform.rank() == 0:
        chunks.join(count, {KIND: schema}, [KIND])
    return target


def _schema(hidden: int, layers: Sequence[int], include: Sequence[str], facts: dict[str, Any]) -> pa.Schema:
    number, vector = pa.float32(), pa.list_(pa.float32(), hidden)
    kinds = {"mean": vector, "cls": vector, "residues": pa.list_(vector), "contacts": pa.list_(pa.list_(number))}
    of_tokens = pa.list_(pa.list_(number, len(TOKENS)))
    fields = [("id", pa.string()), ("length", pa.int32()), ("truncated", pa.bool_())]
    for kind in include:
        names = [f"{kind}_{layer}" for layer in layers] if kind in OF_LAYERS else [kind]
        fields += [(name, kinds.get(kind, of_tokens)) for name in names]
    return pa.schema(fields, {METADATA: json.dumps(facts, sort_keys=True)})


@torch.inference_mode()
def _rows(
    model: torch.nn.Module,
    proteins: Sequence[Protein],
    config: Embed,
    layers: Sequence[int],
    include: Sequence[str],
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    samples = [with_special_tokens(encode(protein.sequence[: config.max_residues])) for protein in proteins]
    rows: list[dict[str, Any]] = [{} for _ in proteins]
    contacts = "contacts" in include
    lengths = np.array([len(sample) for sample in samples])
    # the attention maps of all layers are in memory, so they are made for one protein at a time
    batches = np.arange(len(samples))[:, None] if contacts else length_buckets(lengths, budget(config))
    for batch in batches:
        padded = np.full((len(batch), max(len(samples[i]) for i in batch)), PAD, np.int64)
        for place, i in enumerate(batch):
            padded[place, : len(samples[i])] = samples[i]
        tokens = torch.from_numpy(padded).to(platform.device())
        mask = (tokens != PAD).long()
        made = model.esm(tokens, attention_mask=mask, output_hidden_states=True, output_attentions=contacts)
        # the last hidden states are after the final norm
        whole = {layer: made.hidden_states[layer].float().cpu().numpy() for layer in layers}
        logits = model.lm_head(made.last_hidden_state).float()
        of_tokens = {"logits": logits.cpu().numpy(), "probabilities": logits.softmax(-1).cpu().numpy()}
        if contacts:
            maps = model.esm.contact_head(tokens, torch.stack(made.attentions, 1)).float().cpu().numpy()
        for place, i in enumerate(batch):
            count = len(samples[i]) - 2
            inside, row = slice(1, 1 + count), rows[i]
            row |= {"id": proteins[i].name, "length": len(proteins[i].sequence)}
            row["truncated"] = count < len(proteins[i].sequence)
            for layer, states in whole.items():
                found = {
                    "mean": states[place, inside].mean(axis=0, dtype=np.float64).astype(np.float32),
                    "cls": states[place, 0],
                    "residues": states[place, inside],
                }
                row |= {f"{kind}_{layer}": found[kind] for kind in OF_LAYERS if kind in include}
            row |= {kind: values[place, inside] for kind, values in of_tokens.items() if kind in include}
            if contacts:
                row["contacts"] = maps[place, :count, :count]
            for name, values in row.items():
                if isinstance(values, np.ndarray):
                    if not np.isfinite(values).all():
                        raise not_finite(proteins[i].name)
                    row[name] = list(values)
        advance(sum(len(samples[i]) - 2 for i in batch))
    return rows
