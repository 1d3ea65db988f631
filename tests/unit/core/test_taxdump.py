"""The taxonomy dump: names that are asked for, and the ends of the ways up. Its damage: test_taxonomy.py of curate."""

import io
import random
import tarfile

import numpy as np

from unirefine.core.taxdump import read_dump, tops


def test_names_are_scientific_and_only_those_asked_for(tmp_path):
    names = (
        "9606\t|\thuman\t|\t\t|\tgenbank common name\t|\n"
        "9606\t|\tHomo sapiens\t|\t\t|\tscientific name\t|\n"
        "10090\t|\tMus musculus\t|\t\t|\tscientific name\t|\n"
        "not a line of names\n"
        "x\t|\tHomo\t|\t\t|\tscientific name\t|\n"
    )
    path = tmp_path / "t.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {"names.dmp": names, "nodes.dmp": "9606\t|\t1\t|\n"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    assert read_dump(path, {9606, 5}).names == {9606: "Homo sapiens"}
    assert read_dump(path).names == {}


def test_the_way_up_is_that_of_single_steps():
    chosen = random.Random(4)
    parent = np.array([0, *(chosen.randrange(taxon) for taxon in range(1, 500))], np.int32)
    parent[[7, 100]] = [7, 100]
    found = tops(parent)
    for taxon in range(500):
        at = taxon
        while parent[at] != at:
            at = parent[at]
        assert found[taxon] == at


def test_a_loop_in_the_tree_ends():
    assert len(tops(np.array([1, 2, 0], np.int32))) == 3
