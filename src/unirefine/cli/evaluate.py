"""`unirefine evaluate`: masked perplexity; its subcommands measure models in other ways."""

import argparse
import re
from pathlib import Path

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.config import Evaluate

MODEL = "a training run, its final/, a checkpoint, a Hugging Face ESM-2 directory, or a hub id"


def parser() -> argparse.ArgumentParser:
    """The command line of `unirefine evaluate [variants | contacts | contact-head | proteingym | suite]`."""
    made = stage_parser(
        "evaluate",
        "Masked perplexity over the validation shard with a fixed mask: of the checkpoint on Megatron-core, of the "
        "checkpoint in transformers' EsmForMaskedLM (both must agree); where the residue is hidden, also of baselines. "
        "Writes OUTPUT/perplexity.json.",
        "unirefine evaluate --shards results/demo/shard --model results/demo/train/final --output evaluation",
    )
    add_config(made, "evaluate")
    made.add_argument("--shards", type=Path, metavar="DIR", help="directory of the shard stage")
    made.add_argument("--model", type=Path, nargs="+", metavar="MODEL", help=f"{MODEL}; several make one table")
    made.add_argument("--output", type=Path, metavar="DIR", help="where perplexity.json goes")
    made.add_argument("--clusters", type=Path, metavar="DIR", help="directory of the cluster stage: breakdown by size")
    made.add_argument(
        "--decontaminated", type=Path, metavar="DIR",
        help="directory of the decontaminate stage: breakdown by identity to train (needs --clusters)",
    )  # fmt: skip
    made.add_argument(
        "--before",
        type=Path,
        metavar="MODEL",
        help="the model that the first --model was continued from",
    )
    made.add_argument(
        "--also", type=named, action="append", default=[], metavar="NAME=DIR",
        help="a further validation set, results of a run or its shards, for both; may be repeated",
    )  # fmt: skip
    more = made.add_subparsers(title="more", metavar="[variants | contacts | contact-head | proteingym | suite]")
    _add_variants(more)
    _add_contacts(more)
    _add_head(more)
    _add_proteingym(more)
    _add_suite(more)
    made.set_defaults(
        run=with_lock(
            lambda arguments: _perplexity(made, arguments),
            lambda arguments: arguments.output and arguments.output / ".lock",
        )
    )
    return made


def _add_variants(more: argparse._SubParsersAction) -> None:
    made = more.add_parser(
        "variants",
        help="zero-shot effect of variants",
        description="Zero-shot effect of variants: masked-marginal and wild-type-marginal scores of substitutions, "
        "pseudo-log-likelihoods of insertions, deletions and stop codons, and Spearman's correlation with measured "
        "values. Writes OUTPUT/variants.csv and variants.json; --scan also a picture of each protein.",
        epilog="example:\n  unirefine evaluate variants --model esm2_8m --fasta wild_type.fasta --csv assay.csv "
        "--output variants",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(made, "evaluate")
    made.add_argument("--model", type=Path, required=True, metavar="MODEL", help=MODEL)
    made.add_argument(
        "--fasta", type=Path, required=True, metavar="FILE",
        help="the wild types; without --csv, one wild type followed by its variants",
    )  # fmt: skip
    given = made.add_mutually_exclusive_group()
    given.add_argument(
        "--csv", type=Path, metavar="FILE",
        help="variants: column `mutant` (A42G, A42del, A42_C50del, A42_K43insGG, A42*, WT; several joined by :) or "
        "`mutated_sequence`, column `id` when the FASTA has several proteins, and a column of measured values "
        "(DMS_score, score, measured, or --measured)",
    )  # fmt: skip
    given.add_argument("--scan", action="store_true", help="all substitutions of every residue, and a heat map of each")
    made.add_argument(
        "--unscored", choices=("error", "skip"), default="error",
        help="a row that cannot be scored stops the command, or is listed while the rest is scored (default: error)",
    )  # fmt: skip
    made.add_argument("--measured", metavar="COLUMN", help="column of measured values")
    made.add_argument("--offset", type=int, default=0, help="number of the first residue, minus 1 (default: 0)")
    made.add_argument(
        "--decontaminated", type=Path, metavar="DIR",
        help="directory of the decontaminate stage of the model's run, whose decontaminate.against has the wild types: "
        "says what is nearest to each in train",
    )  # fmt: skip
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    made.set_defaults(run=with_lock(_variants))


def _add_contacts(more: argparse._SubParsersAction) -> None:
    made = more.add_parser(
        "contacts",
        help="contacts from attention maps",
        description="Contacts from attention maps through the checkpoint's contact head: precision at L/5, L/2 and L, "
        "by separation. Writes OUTPUT/contacts.json and a matrix per protein.",
        epilog="example:\n  unirefine evaluate contacts --model esm2_8m --contacts 1ubq.pdb 2abc.cif --output contacts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--model", type=Path, required=True, metavar="MODEL", help=f"{MODEL}; with a contact head")
    made.add_argument(
        "--contacts", type=Path, required=True, nargs="+", metavar="FILE",
        help="one file per protein: a structure (.pdb, .cif, also gzipped), a 0/1 matrix (.npy) or pairs of residue "
        "numbers (.csv)",
    )  # fmt: skip
    made.add_argument("--fasta", type=Path, metavar="FILE", help="sequences for .npy and .csv files of the same names")
    made.add_argument("--chain", help="chain of the structures (default: the first protein chain)")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    made.set_defaults(run=with_lock(_contacts))


def _add_head(more: argparse._SubParsersAction) -> None:
    made = more.add_parser(
        "contact-head",
        help="give a model a contact head",
        description="Fit a contact head to a model with a few structures: a logistic regression (L1) on its attention "
        "maps, as published ESM-2 models have. Writes OUTPUT, a Hugging Face directory of the model with the head, for "
        "`evaluate contacts`, and for predict_contacts of transformers.",
        epilog="example:\n  unirefine evaluate contact-head --model results/demo/train/final --contacts 1ubq.pdb "
        "2abc.cif --output demo-with-head",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--model", type=Path, required=True, metavar="MODEL", help=MODEL)
    made.add_argument(
        "--contacts", type=Path, required=True, nargs="+", metavar="FILE",
        help="one file per protein, as for `evaluate contacts`; 20 structures are usual. Judge the head on others",
    )  # fmt: skip
    made.add_argument("--fasta", type=Path, metavar="FILE", help="sequences for .npy and .csv files of the same names")
    made.add_argument("--chain", help="chain of the structures (default: the first protein chain)")
    made.add_argument(
        "--penalty", type=_positive, default=0.15, metavar="C",
        help="scikit-learn's C: the larger, the weaker the penalty (default: 0.15, as for the published heads)",
    )  # fmt: skip
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write; must not exist")
    made.set_defaults(run=_head)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _head(arguments: argparse.Namespace) -> None:
    from unirefine.megatron import platform

    from unirefine.evaluate.contact_head import line, run

    given = {name: getattr(arguments, name) for name in ("model", "contacts", "output", "fasta", "chain", "penalty")}
    try:
        print(line(run(**given), arguments.output))
    finally:
        platform.shutdown()


def _add_proteingym(more: argparse._SubParsersAction) -> None:
    made = more.add_parser(
        "proteingym",
        help="ProteinGym's zero-shot benchmark",
        description="Every assay of ProteinGym as it is published: Spearman, AUC, MCC, NDCG and top recall, averaged "
        "as the benchmark averages, by selection type, MSA depth, taxon and mutation depth. Writes "
        "OUTPUT/proteingym.json, assays.csv, summary.csv and the scores of each assay. Started again, it goes on after "
        "the last finished assay.",
        epilog="example:\n  unirefine evaluate proteingym --model facebook/esm2_t12_35M_UR50D "
        "--assays DMS_ProteinGym_substitutions --reference DMS_substitutions.csv --output proteingym",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(made, "evaluate")
    made.add_argument("--model", type=Path, required=True, metavar="MODEL", help=MODEL)
    made.add_argument("--assays", type=Path, required=True, metavar="DIR", help="directory of the assays' CSV files")
    made.add_argument("--reference", type=Path, required=True, metavar="FILE", help="ProteinGym's reference file")
    made.add_argument(
        "--unscored", choices=("error", "skip"), default="error",
        help="a row that cannot be scored stops the command, or is left out (default: error)",
    )  # fmt: skip
    made.add_argument(
        "--devices", type=at_least_one, default=1, metavar="N",
        help="so many processes share the assays, each with a GPU of its own (default: 1)",
    )  # fmt: skip
    made.add_argument(
        "--decontaminated", type=Path, metavar="DIR",
        help="directory of the decontaminate stage of the model's run, whose decontaminate.against has the wild types: "
        "averages also by the identity of what is nearest in train",
    )  # fmt: skip
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    made.add_argument("--share", type=_share, help=argparse.SUPPRESS)  # of a process that --devices has started
    made.set_defaults(
        run=with_lock(_proteingym, lambda arguments: None if arguments.share else arguments.output / ".lock")
    )


def _add_suite(more: argparse._SubParsersAction) -> None:
    made = more.add_parser(
        "suite",
        help="one table for any models",
        description="Several models in one table: masked perplexity, contacts, effect of variants, frozen probes, "
        "speed and memory, each part when its data is given, beside what needs no model. Writes OUTPUT/suite.json, "
        "suite.md and suite.html.",
        epilog="example:\n  unirefine evaluate suite --model ours=results/demo/train/final "
        "--model 8M=facebook/esm2_t6_8M_UR50D --shards results/demo/shard --output suite",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(made, "evaluate")
    made.add_argument(
        "--model", action="append", required=True, metavar="NAME=PATH",
        help=f"{MODEL}, or a directory or hub id of another model that transformers loads, with ESM-2's tokens; may "
        "be repeated. Ratios are to the first",
    )  # fmt: skip
    made.add_argument("--shards", type=Path, metavar="DIR", help="directory of the shard stage: masked perplexity")
    made.add_argument(
        "--contacts", type=Path, nargs="+", default=[], metavar="FILE", help="contacts, as for `evaluate contacts`"
    )
    made.add_argument("--fasta", type=Path, metavar="FILE", help="sequences for .npy and .csv files of --contacts")
    made.add_argument("--variants", type=Path, metavar="FILE", help="an assay, as --csv of `evaluate variants`")
    made.add_argument("--wild-types", type=Path, metavar="FILE", help="FASTA of the assay's wild types")
    made.add_argument(
        "--probe", action="append", default=[], metavar="TABLE:COLUMN",
        help="a CSV or TSV with a column `sequence` and one of numbers or categories, which a linear model on frozen "
        "vectors predicts; may be repeated (needs the extra finetune)",
    )  # fmt: skip
    made.add_argument(
        "--split", metavar="COLUMN",
        help="of the probes' tables, with `train` and `test` (default: MMseqs2 clusters at 30%% identity)",
    )  # fmt: skip
    made.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="of MMseqs2 (default: 1)")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    made.set_defaults(run=with_lock(_suite))


def _suite(arguments: argparse.Namespace) -> None:
    config = config_of(arguments, Evaluate, "evaluate")
    from unirefine.megatron import platform

    from unirefine.core.summaries import aligned
    from unirefine.evaluate.suite import run
    from unirefine.evaluate.suite_page import tables

    try:
        result = run(
            arguments.model, arguments.output, config, shards=arguments.shards, contacts=arguments.contacts,
            fasta=arguments.fasta, variants=arguments.variants, wild_types=arguments.wild_types,
            probes=arguments.probe, split=arguments.split, threads=arguments.threads,
        )  # fmt: skip
        _heading, columns, rows, text = tables(result)[0]
        print("\n".join([*aligned(columns, rows), *text]))
        print(f"wrote {arguments.output / 'suite.json'}, suite.md, suite.html")
    finally:
        platform.shutdown()


def named(text: str) -> tuple[str, Path]:
    """`NAME=DIR` as a pair."""
    name, separator, directory = text.partition("=")
    if not (separator and directory and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR, as in general=results/demo")
    if name == "validation":
        raise argparse.ArgumentTypeError(f"{text!r}: this name is that of the model's own set; choose another")
    return name, Path(directory)


def _share(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    return int(number), int(of)


def _proteingym(arguments: argparse.Namespace) -> None:
    config = config_of(arguments, Evaluate, "evaluate")
    from unirefine.megatron import platform

    from unirefine.evaluate.proteingym import lines, on_devices, run

    given = {name: getattr(arguments, name) for name in ("model", "assays", "reference", "output")}
    try:
        if arguments.devices > 1 and not arguments.share:
            words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
            block = config.model_dump_json()
            on_devices(
                ["evaluate", "proteingym", *words, "--unscored", arguments.unscored, "--config", block],
                arguments.devices,
            )
        result = run(
            **given, config=config, skip=arguments.unscored == "skip",
            share=arguments.share or (0, 1), average=not arguments.share, decontaminated=arguments.decontaminated,
        )  # fmt: skip
        if not arguments.share:
            print("\n".join(lines(result)))
            print(f"wrote {arguments.output / 'proteingym.json'}, assays.csv, summary.csv, scores/")
    finally:
        platform.shutdown()


def _perplexity(made: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in ("shards", "model", "output") if getattr(arguments, name) is None]
    if missing:
        made.error(f"the following arguments are required: {', '.join(missing)}")
    config = config_of(arguments, Evaluate, "evaluate")
    from unirefine.megatron import platform

    from unirefine.core.continued import continued_lines
    from unirefine.core.summaries import hidden_text
    from unirefine.evaluate import elsewhere
    from unirefine.evaluate.render import lines
    from unirefine.evaluate.run import run

    try:
        result = run(
            arguments.shards,
            arguments.model,
            arguments.output,
            config,
            clusters=arguments.clusters,
            decontaminated=arguments.decontaminated,
            before=arguments.before,
            sets=dict(arguments.also),
        )
        if platform.rank() == 0:
            print("\n".join([*lines(result), *elsewhere.lines(result["elsewhere"]), *continued_lines(result)]))
            print(f"wrote {arguments.output / 'perplexity.json'}")
            print(hidden_text(result))
    finally:
        platform.shutdown()


def _variants(arguments: argparse.Namespace) -> None:
    config = config_of(arguments, Evaluate, "evaluate")
    from unirefine.megatron import platform

    from unirefine.evaluate.render import variant_lines
    from unirefine.evaluate.variants import run

    try:
        result = run(
            arguments.model,
            arguments.fasta,
            arguments.output,
            config,
            csv_path=arguments.csv,
            measured=arguments.measured,
            offset=arguments.offset,
            skip=arguments.unscored == "skip",
            scan=arguments.scan,
            decontaminated=arguments.decontaminated,
        )
        if platform.rank() == 0:
            print("\n".join(variant_lines(result)))
            print(f"wrote {arguments.output / 'variants.csv'}, {arguments.output / 'variants.json'}")
    finally:
        platform.shutdown()


def _contacts(arguments: argparse.Namespace) -> None:
    from unirefine.evaluate.contacts import run
    from unirefine.evaluate.render import contact_lines

    result = run(arguments.model, arguments.contacts, arguments.output, fasta=arguments.fasta, chain=arguments.chain)
    print("\n".join(contact_lines(result)))
    print(f"wrote {arguments.output / 'contacts.json'}")
