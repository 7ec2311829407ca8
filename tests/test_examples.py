"""The page of figures says what the figures say."""

from __future__ import annotations

from examples import results_page


def test_the_readme_says_what_the_page_says() -> None:
    readme = results_page.PAGE.parents[1].joinpath("README.md").read_text(encoding="utf-8")
    section = readme.split("## What compression came to")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    listed = {(row[1], row[2]) for row in rows[2:]}
    page = [[cell.strip() for cell in line.strip("|").split("|")] for line in results_page.page().splitlines()]
    assert len(rows) > 5
    assert listed <= {(row[1].split(" (")[0], row[-1]) for row in page if len(row) > 2}


def test_the_page_of_results_is_what_its_figures_make() -> None:
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page()
    assert (results_page.PAGE.with_name(results_page.PICTURE)).stat().st_size > 10_000
