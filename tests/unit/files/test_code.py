"""A stage's digest is of its package and of what it imports of the libraries that decide results, and of code only."""

import hashlib
import os
import shutil
import subprocess

import pytest

from unirefine.core.levels import STAGES
from unirefine.files import code
from unirefine.files.code import PACKAGE, stage_digest, stage_files, syntax


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the package."""
    copy = tmp_path_factory.mktemp("source") / "unirefine"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def changed(original):
    """(file, change) -> stages whose digest another content of the file changes."""
    spoilt = {}

    def stages(name, change):
        path = original / name
        spoilt[path] = path.read_bytes()
        before = {stage: stage_digest(stage, original) for stage in STAGES}
        path.write_bytes(change(spoilt[path]))
        return {stage for stage in STAGES if stage_digest(stage, original) != before[stage]}

    yield stages
    for path, content in spoilt.items():
        path.write_bytes(content)


def one_more_name(content):
    return content + b"\nEDITED = True\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("split/assign.py", {"split"}),
        ("core/ids.py", {"records", "curate", "cluster", "split", "train", "evaluate", "embed", "report"}),
        (
            "core/hashing.py",
            {"records", "curate", "cluster", "split", "decontaminate", "shard", "train", "evaluate", "embed", "report"},
        ),
        ("model/esm2.py", {"train", "evaluate", "embed"}),
        ("sampling/kernels.py", {"train", "evaluate"}),
        ("dataset/indexed.py", {"shard", "train", "evaluate", "embed"}),
        ("dataset/reader.py", {"train", "evaluate", "embed"}),
        ("curate/artificial_taxa.txt", {"curate"}),
        ("report/template.html", {"report"}),
        ("files/atomic.py", set()),
        ("cli/split.py", set()),
        ("errors.py", set()),
    ],
)
def test_what_an_edit_reruns(changed, name, expected):
    assert changed(name, one_more_name) == expected


@pytest.mark.parametrize("name", ["tables", "removed", "alphabet", "levels"])
def test_an_edit_of_what_stages_share_reruns_several(changed, name):
    assert len(changed(f"core/{name}.py", one_more_name)) >= 3


def test_words_comments_and_formatting_rerun_nothing(changed):
    def reworded(content):
        other = content.replace(b"floor(fraction x count) of", b"The floor of")
        assert other != content
        return b"# a comment\n" + other.replace(b"\n\n\ndef ", b"\n\n# another\ndef ")

    assert changed("split/assign.py", reworded) == set()


def test_a_docstring_is_not_code_but_a_string_with_a_use_is(changed):
    def rewritten(content):
        return content.replace(b'("train", "validation", "test")', b'("train", "validation", "other")')

    assert "split" in changed("core/levels.py", rewritten)


def test_the_files_of_a_stage(original):
    names = {path.relative_to(original).as_posix() for path in stage_files("shard", original)}
    assert {"shard/run.py", "core/hashing.py", "dataset/indexed.py"} <= names
    assert not any(name.startswith(("cluster/", "cli/", "files/", "config/")) for name in names)


def test_a_stage_without_a_package_is_a_bug():
    with pytest.raises(ValueError, match="no package of a stage"):
        stage_digest("shards")


def test_the_syntax_is_the_same_in_every_version_of_python(tmp_path):
    """A golden vector, also checked by `make te-test` on Python 3.12. Another digest would rerun every stage."""
    (tmp_path / "module.py").write_text(
        '''"""A docstring."""
def table(rows: list[str], *, width=8, digits=2, **more) -> str:
    """Another."""
    lines = [f"{name:<{width}}{value:>{width}.{digits}f}{value!r:{chr(60)}}" for name, value in rows]  # a comment
    try:
        return "".join(["", *lines]) or f""
    except* ValueError as errors:
        raise RuntimeError(errors, b"\\0", 1.5, 2j, ...) from None
'''
    )
    digest = hashlib.sha256(syntax(tmp_path / "module.py")).hexdigest()
    assert digest == "be5f0bc53f6c392746074d7694560104cd00fc8c5c47c94b25f7e74f54c6fe33"


def test_the_checkout_is_only_read(tmp_path, monkeypatch):
    """`git status` refreshes the index of a checkout, and leaves its lock behind when it is killed meanwhile."""
    file = tmp_path / "src/unirefine/files/code.py"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    before = (tmp_path / ".git/index").read_bytes()
    os.utime(file, (1, 1))
    monkeypatch.setattr(code, "__file__", str(file))
    commit, modified = code._checkout()
    assert len(commit) == 40 and not modified
    assert (tmp_path / ".git/index").read_bytes() == before
