"""Hugging Face's Trainer on ShardDataset, with validation on fixed masks.

    python examples/hf_trainer.py results/demo/shard --steps 20 --output hf

The Trainer shuffles the numbers of the samples, which are in random order already: that does no harm.
"""

import argparse
from pathlib import Path

from pytorch_loop import esm2
from transformers import Trainer, TrainingArguments

from unirefine.dataset import ShardDataset


def main() -> None:
    """Train, validate, save the model to --output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    arguments = parser.parse_args()

    # as many samples as the steps take: an epoch of the Trainer would repeat the masks of the one before
    train = ShardDataset(arguments.shards, samples=arguments.steps * arguments.batch, max_tokens=arguments.max_tokens)
    validation = ShardDataset(arguments.shards, "validation", max_tokens=arguments.max_tokens)
    trainer = Trainer(
        model=esm2(arguments.layers, arguments.hidden, heads=4),
        args=TrainingArguments(
            output_dir=str(arguments.output), max_steps=arguments.steps, learning_rate=4e-4, adam_beta2=0.98,
            per_device_train_batch_size=arguments.batch, per_device_eval_batch_size=arguments.batch,
            logging_steps=1, save_strategy="no", report_to="none", remove_unused_columns=False,
        ),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=ShardDataset.padded,
    )  # fmt: skip
    trainer.train()
    print(f"validation loss {trainer.evaluate()['eval_loss']:.6f}")
    trainer.save_model(str(arguments.output))


if __name__ == "__main__":
    main()
