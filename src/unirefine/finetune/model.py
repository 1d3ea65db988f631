"""The model: transformers' ESM-2 with a head for all targets, frozen, with peft's adapters, or whole."""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from unirefine.config import Finetune
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, replace_directory, temporary_directory, write_json
from unirefine.finetune.tasks import Target
from unirefine.model.convert import write_tokenizer
from unirefine.model.huggingface import check_whole
from unirefine.model.inference import load_esm_for_masked_lm
from unirefine.model.source import ADAPTER, find
from unirefine.model.tensors import SafetensorsFile

WEIGHTS, TASK = "adapter_model.safetensors", "unirefine-task.json"
_OF_A_CLASSIFIER = ("problem_type", "id2label", "label2id", "num_labels", "architectures", "classifier_dropout")
_PROBLEMS = {
    "regression": "regression", "multilabel": "multi_label_classification",
    "binary": "single_label_classification", "multiclass": "single_label_classification",
}  # fmt: skip


def base_of(given: Path | str, output: Path) -> tuple[Path, str]:
    """(Hugging Face directory of a model, how it is named in an adapter's config: a hub id, or an absolute path).

    A model that is only a Megatron checkpoint is written to `output/base` first. Raises UserError when it is no ESM-2.
    """
    found = find(given)
    if found.huggingface is None:
        directory = output / "base"
        if not directory.exists():
            with temporary_directory(directory) as work:
                load_esm_for_masked_lm(found.directory).cpu().save_pretrained(work / "base")
                write_tokenizer(work / "base")
                replace_directory(work / "base", directory)
    else:
        directory = found.huggingface
    check_whole(directory)
    named = str(given) if not Path(given).exists() else str(directory.absolute())
    return directory, named


def build(base: Path, targets: Sequence[Target], config: Finetune, name: str) -> torch.nn.Module:
    """The model of a mode with a new head, on the CPU. Its random weights follow from `config.seed` alone.

    name: of the base in an adapter's config. Raises UserError when no module is named as `config.adapted`.
    """
    torch.manual_seed(config.seed)
    model = _with_head(base, targets)
    if config.mode == "lora":
        from peft import LoraConfig, TaskType, get_peft_model

        settings = LoraConfig(
            task_type=TaskType.TOKEN_CLS if targets[0].is_residue else TaskType.SEQ_CLS,
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.adapted),
            modules_to_save=["classifier"], base_model_name_or_path=name,
        )  # fmt: skip
        model.name_or_path = name  # which peft takes instead of `base_model_name_or_path`
        try:
            with quiet():
                return get_peft_model(model, settings)
        except ValueError as error:
            fix = "give ends of the names of linear modules, such as query, key, value or dense"
            raise UserError(f"finetune.adapted {list(config.adapted)}: {error}", fix=fix) from None
    for parameter_name, parameter in model.named_parameters():
        in_head = parameter_name.startswith("classifier.")
        # the contact head is not part of the forward pass
        parameter.requires_grad = in_head or (config.mode == "full" and "contact_head" not in parameter_name)
    return model


def _with_head(base: Path, targets: Sequence[Target]) -> torch.nn.Module:
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, EsmConfig

    labels = dict(enumerate(_output_names(targets)))
    # a model that was a classifier before says so in its config
    stored, _unused = EsmConfig.get_config_dict(base)
    known = {name: value for name, value in stored.items() if name not in _OF_A_CLASSIFIER}
    config = EsmConfig(**known, id2label=labels, label2id={label: at for at, label in labels.items()})
    if len(targets) == 1:
        config.problem_type = _PROBLEMS.get(targets[0].task)
    kind = AutoModelForTokenClassification if targets[0].is_residue else AutoModelForSequenceClassification
    with quiet():
        return kind.from_pretrained(base, config=config, use_safetensors=True, dtype=torch.float32)


def _output_names(targets: Sequence[Target]) -> list[str]:
    if len(targets) == 1:
        return targets[0].classes or [targets[0].name]
    return [f"{target.name}={one}" if one else target.name for target in targets for one in target.classes or [""]]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No word of transformers that the head is new and the language model's is not used."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of peft's use of transformers
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def scale_regression(model: torch.nn.Module, targets: Sequence[Target], scales: Sequence[tuple[float, float]]) -> None:
    """Change the head from standardised numbers to the units of the labels, in place. scales: (mean, deviation)."""
    last = [module for name, module in model.named_modules() if name.endswith("out_proj")]
    heads = [module for module in last if isinstance(module, torch.nn.Linear) and module.weight.requires_grad]
    start = 0
    with torch.no_grad():
        for target, (mean, deviation) in zip(targets, scales, strict=True):
            if target.task == "regression":
                for head in heads:
                    head.weight[start] *= deviation
                    head.bias[start] = head.bias[start] * deviation + mean
            start += target.outputs


def export(
    model: torch.nn.Module, directory: Path, targets: Sequence[Target], config: Finetune, name: str, *, merge: bool
) -> None:
    """Write the model to `directory`, as transformers or peft save it, with the tokenizer and what the outputs mean.

    merge: an adapted model as a whole one.
    """
    if merge and config.mode == "lora":
        model = copy.deepcopy(model).merge_and_unload()
    task = {
        "base": name, "mode": config.mode, "max_residues": config.max_residues,
        "targets": [{"name": one.name, "task": one.task, "classes": one.classes} for one in targets],
    }  # fmt: skip
    with temporary_directory(directory) as work, quiet():
        made = work / "model"
        if config.mode == "lora" and not merge:
            model.save_pretrained(made, save_embedding_layers=False)
        else:
            model.save_pretrained(made)
        write_tokenizer(made)
        write_json(made / TASK, task)
        replace_directory(made, directory)


def load(directory: Path) -> tuple[torch.nn.Module, list[Target], dict[str, Any]]:
    """(model in eval mode on the CPU, targets without values, what else its task file says) of an exported directory.

    Raises UserError when it is none, or when the base of an adapter is not there.
    """
    task = read_json(directory / TASK)
    targets = [Target(one["name"], one["task"], list(one["classes"]), []) for one in task["targets"]]
    for weights in directory.glob("*.safetensors"):
        SafetensorsFile(weights)  # says what is damaged
    if not (directory / ADAPTER).is_file():
        with quiet():
            from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

            kind = AutoModelForTokenClassification if targets[0].is_residue else AutoModelForSequenceClassification
            try:
                return kind.from_pretrained(directory, use_safetensors=True).eval(), targets, task
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(f"cannot be loaded ({error})", where=directory, fix="fine-tune again") from None
    from peft import PeftModel

    if not (directory / WEIGHTS).is_file():  # peft would open a pickle instead
        raise UserError(f"no {WEIGHTS}", where=directory, fix="fine-tune again, or get the whole directory")
    try:
        base = find(task["base"])
    except UserError as error:
        fix = "put it back, or fine-tune with --merge, whose model needs no other"
        raise UserError(f"its base model cannot be opened ({error.what})", where=task["base"], fix=fix) from None
    assert base.huggingface is not None
    with quiet():
        model = _with_head(base.huggingface, targets)
        try:
            return PeftModel.from_pretrained(model, str(directory)).eval(), targets, task
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"its adapter does not fit {task['base']} ({error})", where=directory) from None
