import pytest

from unirefine.core.summaries import published_rows, tool_text


def release(*published, **entries):
    found = [
        {"file": file, "what": what, "found": "?", "published": str(count), "source": "a data card"}
        for file, what, count in published
    ]
    return {"entries": entries, "published": found}


@pytest.mark.parametrize(
    ("published", "kept", "equals"),
    [
        (65_672_139, 65_000_000, "before curation"),
        (65_000_000, 65_000_000, "after curation"),
        (65_672_139, 65_672_139, "before and after curation"),
        (38_840_027, 65_000_000, "neither"),
    ],
)
def test_which_of_our_two_numbers_the_published_one_is(published, kept, equals):
    known = release(("uniref50.release_note", "entries", published), uniref50=65_672_139)
    assert published_rows(known, {"uniref50": {"kept": kept}}) == [
        ["UniRef50 clusters", f"{published:,} (a data card)", "65,672,139", f"{kept:,}", equals]
    ]


def test_a_level_that_nobody_published_and_one_that_two_did():
    known = release(
        ("uniref90.release_note", "entries", 5), ("uniref90.release_note", "entries", 4),
        ("uniref50.xml.gz", "size", 3), uniref50=3_000_000, uniref90=5,
    )  # fmt: skip
    rows = published_rows(known, {"uniref50": {"kept": 2_999_999}, "uniref90": {"kept": 4}})
    assert [(row[1], row[4]) for row in rows] == [
        ("not known", "-"), ("5 (a data card)", "before curation"), ("4 (a data card)", "after curation"),
    ]  # fmt: skip


def test_own_sequences_have_no_published_count():
    assert published_rows(release(), {"uniref90": {"kept": 4}}) == []


@pytest.mark.parametrize("published", [[], [("uniref50.release_note", "entries", 65_672_139)]])
def test_a_demo_is_not_compared_with_a_release(published):
    assert published_rows(release(*published, uniref50=8216), {"uniref50": {"kept": 8213}}) == []


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("8cc5ce367b5638c4306c2d7cfc652dd099a4643f", "MMseqs2 18-8cc5c"),
        ("14-7e284+ds-1", "MMseqs2 14-7e284+ds-1"),
        ("0123456789", "MMseqs2 0123456789"),
    ],
)
def test_mmseqs_is_named_by_its_version(version, text):
    assert tool_text("mmseqs", version) == text
    assert tool_text("torch", "2.13.0") == "torch 2.13.0"
