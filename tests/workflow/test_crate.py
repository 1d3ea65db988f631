"""The crate of a real run, read by the RO-Crate community's validator: RO-Crate 1.1 and Workflow Run Crate."""

import json
import shutil
import zipfile

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PROFILE = "workflow-run-crate-0.5"
"""It includes RO-Crate 1.1, Process Run Crate and Workflow RO-Crate."""
OPEN = {
    "Application url": "the workflow has no public address",
    "SoftwareApplication id": "the check is about two classes of the vocabulary, not about an entity of the crate",
    "Action agent": "a program does not know who ran it",
    "Root Data Entity: `author` property": "likewise",
    "Root Data Entity: `publisher` property": "likewise",
}
"""Recommendations that are not met, and why."""

# The terms of both contexts that a crate uses, so that nothing is downloaded. The published files have 2,500 more.
SCHEMA = (
    "ComputerLanguage CreateAction CreativeWork Dataset PropertyValue SoftwareApplication SoftwareSourceCode about"
    " actionStatus additionalType contentSize datePublished description encodingFormat endTime exampleOfWork hasPart"
    " identifier instrument license mainEntity mentions name object programmingLanguage result sdDatePublished"
    " softwareRequirements softwareVersion startTime url value valueRequired version workExample"
)
WORKFLOW_RUN = "https://w3id.org/ro/terms/workflow-run"
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": {term: f"http://schema.org/{term}" for term in SCHEMA.split()}
    | {
        "File": "http://schema.org/MediaObject",
        "conformsTo": "http://purl.org/dc/terms/conformsTo",
        "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
        "FormalParameter": "https://bioschemas.org/FormalParameter",
        "input": "https://bioschemas.org/ComputationalWorkflow#input",
    },
    f"{WORKFLOW_RUN}/context": {name: f"{WORKFLOW_RUN}#{name}" for name in ("md5", "sha256")},
}


@pytest.fixture(scope="module")
def crate(finished, tmp_path_factory):
    """The unpacked crate of the finished run."""
    directory = tmp_path_factory.mktemp("crate")
    done = finished.unirefine("crate", "--results", "results/small", "--output", directory / "run.crate.zip")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(directory / "run.crate.zip") as archive:
        archive.extractall(directory / "run")
    return directory / "run"


@pytest.fixture
def issues(tmp_path):
    """A function from a crate's directory to (whether it is required, check, message, entity) of all issues found."""
    # a second, in every worker that collects this module
    from requests_cache import CachedSession
    from requests_cache.models import CachedRequest, CachedResponse
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings

    session = CachedSession(cache_name=tmp_path / "http", backend="sqlite", expire_after=-1)
    for url, terms in CONTEXTS.items():
        request = CachedRequest(method="GET", url=url)
        content = json.dumps({"@context": terms}).encode()
        answer = {"headers": {"Content-Type": "application/ld+json"}, "content": content}
        session.cache.save_response(CachedResponse(request=request, url=url, status_code=200, **answer))
    session.close()

    def validate(directory):
        settings = ValidationSettings(
            rocrate_uri=directory, profile_identifier=PROFILE, requirement_severity=Severity.RECOMMENDED, offline=True,
            cache_path=tmp_path / "http",
        )  # fmt: skip
        found = services.validate(settings).get_issues(Severity.RECOMMENDED)
        return [
            (issue.severity >= Severity.REQUIRED, issue.check.name, issue.message, issue.violatingEntity)
            for issue in found
        ]

    return validate


def graph(crate):
    return json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]


def test_the_validator_finds_only_what_a_program_cannot_know(crate, issues):
    found = issues(crate)
    assert [issue for issue in found if issue[0]] == []
    assert [issue for issue in found if issue[1] not in OPEN] == []


def test_the_validator_is_not_blind(crate, issues, tmp_path):
    whole = json.loads((crate / "ro-crate-metadata.json").read_text())
    for entity in whole["@graph"]:
        if entity["@id"] == "#parameter/split.seed":
            del entity["additionalType"]
        if entity["@id"] == "./":
            del entity["license"]
    broken = tmp_path / "broken"
    shutil.copytree(crate, broken)
    (broken / "ro-crate-metadata.json").write_text(json.dumps(whole))
    (broken / "results/report/report.html").unlink()
    found = {(name, str(entity).rsplit("#", 1)[-1]) for required, name, _, entity in issues(broken)
             if required}  # fmt: skip
    assert ("FormalParameter additionalType", "parameter/split.seed") in found
    assert {"Crate license", "Data Entity: REQUIRED resource availability"} <= {name for name, _ in found}


def test_every_term_is_defined_by_the_contexts_that_it_names(crate):
    defined = {term for terms in CONTEXTS.values() for term in terms}
    for entity in graph(crate):
        types = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        assert {key for key in entity if key[0] != "@"} | set(types) <= defined


def test_what_the_profiles_ask_and_the_validator_does_not_look_at(crate):
    """Every file is part of the dataset; every parameter and its value name each other."""
    entities = {entity["@id"]: entity for entity in graph(crate)}
    files = {name for name, entity in entities.items() if "File" in entity["@type"]}
    assert {name.split("/")[0] for name in files} >= {"#input", "#output", "results", "workflow", "Snakefile"}
    assert files == {part["@id"] for part in entities["./"]["hasPart"]}
    parameters = {name: entity for name, entity in entities.items() if entity["@type"] == "FormalParameter"}
    assert {"#parameter/split.seed", "#parameter/train.steps"} <= set(parameters)
    for name, parameter in parameters.items():
        assert entities[parameter["workExample"]["@id"]]["exampleOfWork"]["@id"] == name


def test_code_and_data_name_their_own_licences_and_every_file_its_encoding(crate):
    entities = {entity["@id"]: entity for entity in graph(crate)}
    licences = {name: (entity.get("license") or {}) for name, entity in entities.items()}
    assert licences["./"]["@id"] == licences["#input/uniref50.xml.gz"]["@id"] == "https://spdx.org/licenses/CC-BY-4.0"
    assert licences["Snakefile"]["@id"] == "https://spdx.org/licenses/Apache-2.0"
    assert licences["#output/shard/validation.bin"] == licences["./"]
    assert "None has been chosen" in licences["#output/train/final/huggingface/model.safetensors"]
    files = [entity for entity in entities.values() if "File" in entity["@type"]]
    assert all(entity["encodingFormat"] for entity in files)
    assert entities["results/report/report.html"]["encodingFormat"] == "text/html"
