"""A Parquet export as Croissant 1.1: what data catalogues and ML loaders read of a data set.

Written and validated by mlcroissant: its record sets are the splits, its files have their SHA-256. Like every Croissant
file it lies beside the data, whose paths in it are relative.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlcroissant as mlc

from unirefine.core.markdown import release_name
from unirefine.core.summaries import is_uniprot
from unirefine.errors import UserError, no_directory
from unirefine.files import lineage
from unirefine.files.atomic import read_json, write_text
from unirefine.files.hashes import is_record, wrong_size
from unirefine.files.outputs import json_of, refuse_overwriting

CC_BY = "https://creativecommons.org/licenses/by/4.0/"
PARQUET = "application/x-parquet"
COLUMNS = {
    "sequence": "Residues; J is one without a token in ESM-2's alphabet.",
    "ur50_id": "The cluster, named after its representative; for UniRef its UniRef50 id.",
    "ur90_id": "The member; null where the sequence represents a whole cluster.",
}
UNIPROT = (
    "@article{uniprot2025, author={{The UniProt Consortium}}, title={{UniProt: the Universal Protein Knowledgebase in "
    "2025}}, journal={Nucleic Acids Research}, volume={53}, number={D1}, pages={D609--D617}, year={2025}, "
    "doi={10.1093/nar/gkae1010}}"
)
AGAIN = "run `unirefine export` again"


def run(export: Path, output: Path) -> dict[str, int]:
    """Write the Croissant file of the Parquet export in `export` to `output`, which lies in that directory.

    Returns `{files, record_sets}`. Raises UserError for what is no complete Parquet export, and for an `output` that
    lies elsewhere or is another file.
    """
    manifest = _manifest(export)
    if output.resolve().parent != export.resolve():
        raise UserError("its paths are relative to the data", where=output, fix=f"write it to {export}/croissant.json")
    refuse_overwriting({output: lambda path: json_of(path, ("@context", "distribution"))}, [])
    made = _metadata(export, manifest, lineage.read(export)["release"] if (export / lineage.FILE).exists() else None)
    text = json.dumps(made.to_json(), indent=1, ensure_ascii=False, default=str) + "\n"
    _validate(json.loads(text), output)
    write_text(output, text)
    return {"files": len(made.file_objects), "record_sets": len(made.record_sets)}


def _manifest(export: Path) -> dict[str, Any]:
    """export.json of a complete Parquet export."""
    path = export / "export.json"
    if not path.exists():
        what = "no export.json, so it is no export or not complete" if export.is_dir() else no_directory(export)
        raise UserError(what, where=export, fix=AGAIN)
    manifest = read_json(path)
    if manifest.get("format") != "unirefine-export" or not is_record(manifest.get("files")):
        raise UserError("not the manifest of an export", where=path, fix=AGAIN)
    if manifest["to"] != "parquet":
        raise UserError(f"an export to {manifest['to']}; Croissant describes Parquet", where=export)
    for file in manifest["files"]:
        if wrong := wrong_size(export, file):
            raise UserError(wrong, where=export / file["name"], fix=AGAIN)
    return manifest


def _metadata(export: Path, manifest: Mapping[str, Any], release: Mapping[str, Any] | None) -> mlc.Metadata:
    uniprot = is_uniprot(release)
    source = "a FASTA or a data set" if release is None else release_name({"release": release})
    number = release["release"] if release is not None and uniprot else None
    data = [file for file in manifest["files"] if file["name"].endswith(".parquet")]
    distribution: list[mlc.FileObject | mlc.FileSet] = [
        mlc.FileObject(
            id=file["name"], name=file["name"].replace("/", "-"), content_url=file["name"], sha256=file["sha256"],
            content_size=f"{file['bytes']} B", encoding_formats=[PARQUET],
        )
        for file in data
    ]  # fmt: skip
    distribution += [
        mlc.FileSet(
            id=f"{side}-files", name=f"{side}-files", includes=[f"{side}/*.parquet"], encoding_formats=[PARQUET]
        )
        for side in manifest["sides"]
    ]
    return mlc.Metadata(
        name=f"{export.resolve().name}",
        description=f"Clustered protein sequences of {source}, split into {' and '.join(manifest['sides'])} for "
        "masked-language-model training in the way of ESM-2.",
        conforms_to=["http://mlcommons.org/croissant/1.1"],
        license=[CC_BY] if uniprot else None,
        cite_as=UNIPROT if uniprot else None,
        date_published=(release or {}).get("date"),
        version="1.0.0" if number is None else ".".join([*(str(int(part)) for part in number.split("_")), "0"]),
        keywords=["protein", *(["UniRef"] if uniprot else []), "ESM-2"],
        distribution=distribution,
        record_sets=[_record_set(side, counts) for side, counts in manifest["sides"].items()],
    )


def _record_set(side: str, counts: Mapping[str, int]) -> mlc.RecordSet:
    return mlc.RecordSet(
        id=side,
        name=side,
        description=f"{counts['sequences']:,} sequences of {counts['documents']:,} clusters",
        fields=[
            mlc.Field(
                id=f"{side}/{column}",
                name=column,
                description=text,
                data_types=mlc.DataType.TEXT,
                source=mlc.Source(file_set=f"{side}-files", extract=mlc.Extract(column=column)),
            )
            for column, text in COLUMNS.items()
        ],
    )


def _validate(text: dict[str, Any], output: Path) -> None:
    """Read it again as its users do; what mlcroissant finds wrong is a fault of ours."""
    read = mlc.Dataset(jsonld=text)
    assert not read.metadata.issues.errors, (output, read.metadata.issues.report())
