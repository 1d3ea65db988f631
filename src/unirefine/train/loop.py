"""The training loop, as every process of the run executes it.

Step k uses the same samples at every layout, the loss is divided by the number of masked positions of the whole step,
and the learning rate is a function of k. So the state of a run is its weights, its optimizer's moments, and the numbers
of steps and samples.
"""

import contextlib
import math
import os
from pathlib import Path
from time import perf_counter

from unirefine.megatron import kernels, platform

from unirefine.config import Train
from unirefine.dataset import open_shards
from unirefine.files import locks
from unirefine.files.hashes import sha256_file
from unirefine.files.made_by import command
from unirefine.model.esm2 import build_esm2
from unirefine.progress import duration, human
from unirefine.sampling import SampleStream
from unirefine.train import checkpoints, engine, launcher, machine, origin, schedule
from unirefine.train.data import check_shards, training_steps
from unirefine.train.finish import finish, is_finished
from unirefine.train.forecast import data_of
from unirefine.train.initial import find_initial
from unirefine.train.measure import Progress
from unirefine.train.reporter import Reporter, describe_sets, memory_bytes, peak
from unirefine.train.saving import Saver
from unirefine.train.sets import open_sets
from unirefine.train.step import train_step
from unirefine.train.validate import ValidationSets, check_sets


def train(config: Train, shards_directory: Path, output: Path) -> None:
    """Train as one process of the job, whose rank is in the environment. Files and errors: see `run.run`."""
    stop = launcher.StopRequest()
    shards = open_shards(shards_directory)
    identity = checkpoints.identity(config, sha256_file(shards_directory / "manifest.json"))
    main = platform.rank() == 0
    with locks.exclusive(output / ".lock", wait=False) if main else contextlib.nullcontext():
        if is_finished(output, config, identity):
            if main:
                print(f"already trained: {config.steps:,} steps, model in {output / 'final'}")
            return
        here = machine.this_machine()
        if missing := machine.problem(config, here):
            raise missing
        if "SLURM_PROCID" not in os.environ:  # srun may show each process its own GPU only
            machine.check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), here.gpus)
        init, sets = find_initial(config), open_sets(config)

        # Model and optimizer, as the newest checkpoint has them
        platform.initialize(config.parallel, config.seed)
        if platform.on_gpu():
            prepare_gpu(config)
        check_shards(shards_directory)
        check_sets(config)
        model = engine.wrap(build_esm2(config.model, config), config)
        if init is not None:
            init.load(model)
        optimizer = engine.build_optimizer(model, config)
        saver = Saver(output / "checkpoints", model, optimizer, config, identity)
        progress = saver.resume()
        first = progress.step
        progress.forget_sets(sets)
        progress.start(command(), machine.hardware(config, here))
        schedule.check(config.steps, config.optimizer, first)
        if main:
            origin.write_run(output, shards_directory, config, resumed=first > 0)

        # Data: pure functions of the sample index
        rank, ranks = engine.data_rank()
        stream = SampleStream(shards.train, config.sampling)
        left, gpu = config.steps - progress.step, platform.on_gpu()
        steps = training_steps(stream, config, progress.samples, left, rank, ranks, gpu=gpu)
        others = {name: each.validation for name, each in sets.items()}
        validation = ValidationSets(shards.validation, others, config, rank, ranks)
        reporter = None
        if main:
            reporter = Reporter(output, config, progress, machine=here, data=data_of(shards, config))

        if others and first == 0:  # what the model that it starts from can do
            validated = validation.run(model)
            if reporter is not None:
                reporter.log(0, {"samples": 0, "tokens": 0, "seconds": 0.0, **validated})
        preempted, before = False, progress.seconds
        while progress.step < config.steps and not preempted:
            started = perf_counter()
            samples, micro_batches = next(steps)
            waited = perf_counter() - started

            rate = schedule.learning_rate(progress.step, config.steps, config.optimizer)
            engine.set_rate(optimizer, rate, config.optimizer.weight_decay)
            done = train_step(
                model, optimizer, micro_batches,
                step=progress.step, waited=waited, stop=stop.requested, directory=saver.directory,
            )  # fmt: skip
            progress.count(samples, done.sums, perf_counter() - started)
            if reporter is not None and progress.step == first + 1:
                reporter.first_step(progress.step, progress.seconds - before)

            if reporter is not None:
                reporter.attention(kernels.seen())

            last, preempted = progress.step == config.steps, done.stop
            validated = validation.run(model) if last or progress.step % config.validate_every == 0 else {}
            if last or validated or progress.step % config.log_every == 0:
                memory = int(engine.largest(memory_bytes()))
                line = progress.line(
                    config, peak=peak(config), learning_rate=rate, grad_norm=done.grad_norm, memory=memory, **validated
                )
                if reporter is not None:
                    reporter.log(progress.step, line)
            if last or preempted or progress.step % config.checkpoint_every == 0:
                saver.save(progress)

        if progress.step < config.steps:
            if main:
                print(f"stopped by a signal after step {progress.step:,}: checkpoint saved, start again to continue")
            launcher.exit_preempted()
        if progress.latest.get("validated_step") != progress.step:  # it was stopped where train.steps now ends
            validated = validation.run(model)
            line = progress.line(
                config, peak=peak(config), learning_rate=engine.rate(optimizer), grad_norm=math.nan,
                memory=int(engine.largest(memory_bytes())), **validated,
            )  # fmt: skip
            if reporter is not None:
                reporter.amend(progress.step, line, validated)
            saver.save(progress)
        with engine.parameters_synced(model):
            finish(output, model, config, progress, identity, shards.manifest)
        if reporter is not None:
            reporter.close()
            print(f"model: {output / 'final'}")
            print(summary(progress))


def prepare_gpu(config: Train) -> None:
    """Set what `config` asks of this process's GPU. Raises UserError for a recipe that it does not have."""
    kernels.refuse_slow(config.precision != "fp32" and config.attention != "unfused")
    if config.fp8 != "off":
        kernels.require_recipe(config.fp8)
    if config.deterministic:
        platform.only_deterministic()


def summary(progress: Progress) -> str:
    """The last line that the command prints."""
    perplexity = math.exp(progress.latest["validation_loss"])
    hidden = progress.latest.get("validation_hidden_perplexity")
    only = "" if hidden is None else f", of hidden residues {hidden:.3f}"
    return (
        f"trained {progress.step:,} steps, {human(progress.tokens, ' tokens')} in {duration(progress.seconds)}: "
        f"validation perplexity {perplexity:.3f}{only}{describe_sets(progress.latest)}"
    )
