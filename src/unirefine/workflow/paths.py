"""Where the files of one run lie: what the rules declare as input, output, log and benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unirefine.config import Config
from unirefine.core.levels import LEVELS, SIDES
from unirefine.files import lineage, names
from unirefine.files.stages import RESULTS, shards_of


@dataclass(frozen=True)
class Paths:
    """The paths of a run, relative to the working directory."""

    config: Config
    elsewhere: Mapping[str, Path]
    """Directories of the stages that this run takes from another one, or from `release.directory`."""

    @property
    def results(self) -> str:
        """`results/<run>`."""
        return f"{RESULTS}/{self.config.run.name}"

    @property
    def levels(self) -> list[str]:
        """The levels of UniRef in this run. A FASTA of the user's own has one."""
        return ["uniref90"] if self.config.release.source == "fasta" else list(LEVELS)

    def directory(self, stage: str) -> str:
        """The directory of a stage."""
        return str(self.elsewhere.get(stage, f"{self.results}/{stage}"))

    def logs(self, stage: str) -> str:
        """The directory of a stage's logs."""
        return f"logs/{self._run_of(stage)}/{stage}"

    def benchmarks(self, stage: str) -> str:
        """The directory of a stage's benchmark files."""
        return f"benchmarks/{self._run_of(stage)}/{stage}"

    def _run_of(self, stage: str) -> str:
        """The run that makes a stage: the base's, where the stage is shared with it."""
        other = self.elsewhere.get(stage)
        return other.parent.name if other and other.parent.parent == RESULTS else self.config.run.name

    def lineage(self, stage: str) -> str:
        """The lineage of a stage's results. Rules read it as `ancient`: its date makes nothing again."""
        return f"{self.directory(stage)}/{lineage.FILE}"

    def level_lineages(self) -> list[str]:
        """The lineages of the records stage, one a level."""
        return [f"{self.directory('records')}/{level}/{lineage.FILE}" for level in self.levels]

    def record_parts(self, level: str) -> list[str]:
        """The Parquet parts of one level's records."""
        return self._parts(level, "records")

    def member_parts(self, level: str) -> list[str]:
        """The Parquet parts of one level's membership: of XML, and of a data set's UniRef90."""
        release = self.config.release
        has = level == LEVELS[1] if release.is_data_set else release.is_uniprot and release.format == "xml"
        return self._parts(level, "members") if has else []

    def _parts(self, level: str, kind: str) -> list[str]:
        count = self.config.records.parts
        return [f"{self.directory('records')}/{level}/{names.record_part(kind, part, count)}" for part in range(count)]

    def records(self) -> list[str]:
        """The parts of all levels, and their counts."""
        parts = [part for level in self.levels for part in self.record_parts(level) + self.member_parts(level)]
        return parts + self.level_counts()

    def data_set(self) -> list[str]:
        """The files of a data set in a directory of the user's; none for another source."""
        release = self.config.release
        if not release.is_data_set or release.on_hub:
            return []
        directory = Path(str(release.dataset))
        patterns = [f"{side}/*.parquet" for side in SIDES] if release.source == "parquet" else ["*.db", "*.parquet"]
        return sorted(str(path) for pattern in patterns for path in directory.glob(pattern))

    def level_counts(self) -> list[str]:
        """The counts of the records stage, one file a level."""
        return [f"{self.directory('records')}/{level}/counts.json" for level in self.levels]

    def search_pattern(self, kind: str, suffix: str) -> str:
        """The files of one kind of decontaminate's searches, with the wildcard `{part}`."""
        stem = names.search_part("{part}", self.config.decontaminate.parts)
        return f"{self.directory('decontaminate')}/{kind}/{stem}.{suffix}"

    def search_files(self, kind: str, suffix: str) -> list[str]:
        """The files of one kind of decontaminate's searches, one a part."""
        pattern = self.search_pattern(kind, suffix)
        return [pattern.replace("{part}", f"{part:03d}") for part in range(self.config.decontaminate.parts)]

    def shards(self) -> list[str]:
        """The files of all shards: train, validation, and test where the config asks for one."""
        held_out = SIDES[1:] if self.config.split.has_test else SIDES[1:2]
        shards = names.shard_names(self.config.shard.parts, held_out)
        # by shard and suffix, in the order that the stage writes them
        return [f"{self.directory('shard')}/{file}" for shard in shards for file in names.shard_files(shard)]

    def embeddings(self) -> list[str]:
        """The files of the embed stage: tables of vectors, and arrays of them where the config asks for some."""
        embed = self.config.embed
        kinds = ["sequences", "residues"] if embed.per_residue else ["sequences"]
        suffixes = ["parquet", "npy"] if embed.arrays else ["parquet"]
        return [f"{self.directory('embed')}/{kind}.{suffix}" for suffix in suffixes for kind in kinds]

    def validation_sets(self) -> list[str]:
        """The manifests of the further validation sets of training. An edit of a shard changes its manifest."""
        return [str(shards_of(Path(given)) / "manifest.json") for given in self.config.train.validation.values()]

    def initial_weights(self) -> list[str]:
        """The files of the model that training starts from. An edit of one does not change its directory's date."""
        if self.config.train.init is None:
            return []
        given = Path(self.config.train.init)
        if not given.exists() and not given.is_absolute() and len(given.parts) == 2:
            return []  # the id of a model on the hub
        below = ("", "final/") if (given / "final").is_dir() else ("",)
        kinds = ("config.json", "*.safetensors", "*.distcp", ".metadata")
        patterns = [
            f"{one}{layout}{kind}" for one in below for layout in ("", "huggingface/", "megatron/") for kind in kinds
        ]
        found = {path for pattern in patterns for path in given.glob(pattern)}
        return sorted(map(str, found)) or [self.config.train.init]
