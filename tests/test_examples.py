"""The page of figures says what the figures say."""

from __future__ import annotations

from examples import results_page


def test_the_page_of_results_is_what_its_figures_make() -> None:
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page()
    assert (results_page.PAGE.with_name(results_page.PICTURE)).stat().st_size > 10_000
