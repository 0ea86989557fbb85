"""Numbers of tables in the running text of a document."""

from __future__ import annotations

import pytest

from dc_hpc.errors import InputError
from dc_hpc.report.document import check, renew

CLAIMS = (
    "figure,claim,protocol,value,n,verdict,p\n"
    "fig_3a,ia_range,code,0.64,100,contradicted,\n"
    "fig_3a,ia_range,text,-0.6,10,undecided,\n"
)
OTHER = "k,accuracy_median,n,images\n5,79.805,10,1952\n20,75.25,10,1952\n"


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "claims.csv").write_text(CLAIMS, "utf-8")
    (folder / "fig_4a.csv").write_text(OTHER, "utf-8")
    (folder / "fig_4a.md").write_text("| a table |\n", "utf-8")
    return folder


def filled(tables, reference: str) -> str:
    document = tables.parent / "text.md"
    document.write_text(f"It is <!-- ={reference} -->old<!-- end -->.\n", "utf-8")
    check(document)
    renew(document, tables)
    text = document.read_text("utf-8")
    assert text.startswith(f"It is <!-- ={reference} -->") and text.endswith("<!-- end -->.\n")
    return text.split("-->")[1].split("<!--")[0]


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("claims.fig_3a.ia_range.value", ".640"),
        ("claims.fig_3a.ia_range[protocol=text].value", "-.600"),
        ("claims.fig_3a.ia_range.value:%", "64"),
        ("claims.fig_3a.ia_range.value:1", ".6"),
        ("claims.fig_3a.ia_range.n", "100"),
        ("claims.fig_3a.ia_range.verdict", "contradicted"),
        ("fig_4a[k=5].accuracy_median:1", "79.8"),
        ("fig_4a[k=5].images", "1,952"),
        ("fig_4a[k=5].accuracy_median", "79.81"),
        ("fig_4a[k=5].accuracy_median - fig_4a[k=20].accuracy_median:1", "4.6"),
        ("fig_4a[k=20].accuracy_median - fig_4a[k=5].accuracy_median:+1", "-4.6"),
        ("fig_4a[k=5].accuracy_median - fig_4a[k=5].accuracy_median:+1", "+.0"),
    ],
)
def test_a_place_is_filled(tables, reference, expected):
    assert filled(tables, reference) == expected


@pytest.mark.parametrize(
    "reference, why",
    [
        ("fig_9[k=5].n", "has no table fig_9"),
        ("fig_4a.n", "2 rows of fig_4a are meant"),
        ("fig_4a[k=6].n", "0 rows of fig_4a are meant"),
        ("fig_4a[k=5].accuracy", "fig_4a has no column accuracy; it has k, accuracy_median, n, images"),
        ("claims.fig_3a.value", "claims takes figure and claim before its column"),
        ("claims.fig_3a.ia_range.verdict:1", "is 'contradicted' and no number"),
        ("claims.fig_3a.ia_range.value:x", "the format 'x' is none"),
        ("nonsense", "a reference is TABLE.COLUMN"),
        ("claims.fig_3a.ia_range.p", "claims.fig_3a.ia_range.p is empty; give a number that the runs have"),
        ("claims.fig_3a.ia_range[text].value", "[text] names no row; give [name=value,...]"),
    ],
)
def test_a_wrong_place_is_one_line_and_changes_nothing(tables, reference, why):
    with pytest.raises(InputError, match=r"text.md, place <!-- =") as caught:
        filled(tables, reference)
    assert why in str(caught.value) and "\n" not in str(caught.value)
    assert "old" in (tables.parent / "text.md").read_text("utf-8")


def test_tables_and_places_live_in_one_document(tables):
    document = tables.parent / "text.md"
    numbers = "n is <!-- =fig_4a[k=5].n -->?<!-- end --> and <!-- =fig_4a[k=20].n -->?<!-- end -->\n"
    text = f"<!-- fig_4a -->\n<!-- end -->\n{numbers}"
    document.write_text(text, "utf-8")
    renew(document, tables)
    once = document.read_text("utf-8")
    assert once == text.replace("-->\n<!-- end", "-->\n| a table |\n<!-- end", 1).replace("?", "10")
    renew(document, tables)
    assert document.read_text("utf-8") == once
    document.write_text(text.replace("?<!-- end -->\n", "?\n"), "utf-8")
    with pytest.raises(InputError, match="each table needs"):
        check(document)


def test_a_number_may_end_its_line(tables):
    """The end of a place looks like the name of a table, where a line ends with it and another place follows."""
    document = tables.parent / "text.md"
    place = "<!-- =fig_4a[k=5].n -->{}<!-- end -->\n"
    document.write_text(f"{place}of all.\n{place}<!-- fig_4a -->\n<!-- end -->\n", "utf-8")
    check(document)
    renew(document, tables)
    filled_in = place.format("10")
    assert document.read_text("utf-8") == (
        f"{filled_in}of all.\n{filled_in}<!-- fig_4a -->\n| a table |\n<!-- end -->\n"
    )
