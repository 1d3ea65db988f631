"""The command, the time and the CPU, against what the system says."""

import datetime
import platform

import pytest

from unirefine.files import made_by


def test_the_command_is_the_one_that_a_person_gave(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/unirefine", "report", "--results", "my run"])
    monkeypatch.delenv(made_by.COMMAND, raising=False)
    assert made_by.command() == "unirefine report --results 'my run'"
    monkeypatch.setenv(made_by.COMMAND, "snakemake -c2")
    assert made_by.command() == "snakemake -c2"


def test_the_time_is_that_of_now():
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(made_by.now())
    assert datetime.timedelta(0) <= age < datetime.timedelta(seconds=5)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\nmodel name\t: other\n", "AMD EPYC 9R14"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", platform.machine()),
        (None, platform.machine()),
    ],
)
def test_the_cpu_has_the_name_that_linux_knows(facts, name, tmp_path, monkeypatch):
    monkeypatch.setattr(made_by, "CPU_FACTS", tmp_path / "cpuinfo")
    if facts is not None:
        (tmp_path / "cpuinfo").write_text(facts)
    assert made_by.cpu_name() == name


def test_values_of_secret_options_are_hidden():
    given = "snakemake -c2 --storage-s3-secret-key hush --storage-s3-access-key=AKIA --keep-going shard"
    wanted = "snakemake -c2 --storage-s3-secret-key '***' '--storage-s3-access-key=***' --keep-going shard"
    assert made_by.without_secrets(given.split()) == wanted
