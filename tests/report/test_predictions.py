"""The page of predictions in a real headless browser, from its file: threshold, order, filters, markup in names."""

import numpy as np
import pytest
from browsers import until, visits

from foundad.report.predictions import Heading, Scored, write_predictions

EVIL = "bad </script><img src=x onerror=\"document.title='owned'\"> & 'quoted'.png"
SCORES = {"a/2.png": 0.25, "a/10.png": 0.75, "b/1.png": 1.5, EVIL: 0.5}


def scored(name: str, score: float, threshold: float) -> Scored:
    picture = np.full((60, 900 if score > 1 else 90, 3), 40, np.uint8)
    return Scored(name, score, threshold, picture, picture + 100)


@pytest.fixture
def visit(browser, tmp_path):
    """visit(threshold) opens a page of SCORES; at the end nothing may have been complained about or asked for."""

    def start(threshold: float = 0.6, scores: dict[str, float] = SCORES, viewport: tuple[int, int] = (1280, 900)):
        path = tmp_path / "page.html"
        heading = Heading("Predictions <b>", "Nearest neighbour & more", ["x.png: is not a readable picture"])
        write_predictions(path, heading, (scored(name, score, threshold) for name, score in scores.items()))
        return opened(path, viewport={"width": viewport[0], "height": viewport[1]})

    with visits(browser) as opened:
        yield start


def names(page) -> list[str]:
    return page.locator("#pictures .name").all_inner_texts()


def anomalous(page) -> list[str]:
    return page.locator("#pictures .anomalous .name").all_inner_texts()


def test_the_highest_score_comes_first_and_the_threshold_is_the_models(visit):
    page = visit()
    assert names(page) == ["b/1.png", "a/10.png", EVIL, "a/2.png"]
    assert anomalous(page) == ["b/1.png", "a/10.png"]
    assert page.locator("#count").inner_text() == "2 of 4 pictures are anomalous, 4 are shown"
    assert page.locator("#pictures .score").first.inner_text() == "1.5 anomalous"
    assert page.title() == "Predictions <b>"
    assert "x.png: is not a readable picture" in page.locator("main").inner_text()
    until(page, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)", True)
    assert page.evaluate("Math.max(...[...document.images].map((image) => image.naturalWidth))") == 480


def test_the_threshold_moves_by_slider_and_by_number(visit):
    page = visit()
    page.locator("#slider").fill("0.3")
    assert anomalous(page) == ["b/1.png", "a/10.png", EVIL]
    assert float(page.locator("#value").input_value()) == pytest.approx(0.3, abs=0.01)
    page.locator("#value").fill("0.75")
    assert anomalous(page) == ["b/1.png"]  # above, not at
    page.locator("#value").fill("-")
    assert anomalous(page) == ["b/1.png"]
    page.get_by_role("button", name="Learned threshold").click()
    assert anomalous(page) == ["b/1.png", "a/10.png"]


def test_order_filters_and_maps(visit):
    page = visit()
    page.locator("#order").select_option("name")
    assert names(page) == ["a/2.png", "a/10.png", "b/1.png", EVIL]  # 2 before 10
    page.locator("#order").select_option("given")
    assert names(page) == list(SCORES)
    page.locator("#which").select_option("normal")
    assert names(page) == ["a/2.png", EVIL]
    page.locator("#find").fill("A/")
    assert names(page) == ["a/2.png"]
    with_map = page.locator("#pictures img").get_attribute("src")
    page.locator("#maps").uncheck()
    assert page.locator("#pictures img").get_attribute("src") != with_map


def test_without_a_threshold_nothing_is_anomalous_and_a_phone_is_wide_enough(visit):
    page = visit(float("nan"), viewport=(390, 844))
    assert anomalous(page) == []
    assert not page.get_by_role("button", name="Learned threshold").is_visible()
    page.locator("#slider").fill("0")
    assert len(anomalous(page)) == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_no_picture_and_one_picture_are_a_page(visit):
    page = visit(scores={})
    assert page.locator("#count").inner_text() == "0 of 0 pictures are anomalous, 0 are shown"
    page = visit(threshold=2.0, scores={"one.png": 2.0})
    assert page.locator("#count").inner_text() == "0 of 1 pictures are anomalous, 1 are shown"


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_predictions(tmp_path / name, Heading("t", "m", []), [scored("x", 1.0, 0.5)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
