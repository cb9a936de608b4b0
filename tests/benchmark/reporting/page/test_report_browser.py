"""The report in a real Chromium: what only a browser can say."""

import contextlib
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs chromium: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install it")

# Of a machine that does other work too; nothing here takes a second on its own.
PATIENCE_MS = 240_000


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=PATIENCE_MS)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser, report, **how):
    """A page with the report; at the end nothing was logged and nothing fetched."""
    context = browser.new_context(**how)
    page, faults, fetched = context.new_page(), [], []
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert faults == []
    assert {url.partition(":")[0] for url in fetched} <= {"file", "data"}
    context.close()


DESK = {"width": 1280, "height": 900}


@pytest.fixture
def page(browser, report):
    with opened(browser, report, viewport=DESK) as page:
        yield page


@pytest.fixture(scope="module")
def still(browser, report):
    """A page for tests that leave it as they found it."""
    with opened(browser, report, viewport=DESK) as page:
        yield page


def column(page, number):
    """The texts of a column of the main table."""
    return page.locator(f"#table-main tbody tr > :nth-child({number})").all_inner_texts()


def test_answer_figure_and_table_are_on_the_first_screen(still):
    for selector in (".answer", "#figure-fid_vs_steps img", "#table-main table"):
        box = still.locator(selector).bounding_box()
        assert box["width"] > 100 and box["y"] + box["height"] < 900, selector


def test_no_picture_is_broken_and_every_one_has_a_text(still):
    pictures = still.evaluate(
        "[...document.images].filter((image) => !image.closest('dialog')).map((image) => "
        "[image.complete && image.naturalWidth > 0, image.alt !== ''])"
    )
    assert pictures and all(drawn and named for drawn, named in pictures)


def test_a_table_sorts_by_click_and_key_and_comes_back(still):
    head = still.locator("#table-main thead th").nth(1)
    original = column(still, 2)
    numbers = [float(text.split()[0]) for text in original]
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text.split()[0]) for text in column(still, 2)] == sorted(numbers)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text.split()[0]) for text in column(still, 2)] == sorted(numbers, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "none"
    assert column(still, 2) == original


def test_sorting_knows_minus_signs_and_puts_dashes_last(still):
    button = still.locator("#table-main thead th").nth(2).locator("button")
    for sign in (1, -1):
        button.click()
        texts = column(still, 3)
        assert texts[-1] == "–"
        values = [sign * float(text.split()[0].replace("−", "-")) for text in texts[:-1]]
        assert values == sorted(values) and min(values) < 0 < max(values)
    button.click()


def test_a_figure_opens_large_and_esc_closes_it(still):
    small = still.locator("#figure-forest .enlarge")
    small.press("Enter")
    dialog = still.locator("dialog")
    assert dialog.is_visible()
    picture = dialog.locator("img")
    assert picture.get_attribute("src") == small.locator("img").get_attribute("src")
    assert "Effects with their intervals" in dialog.inner_text()
    still.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert still.evaluate("document.activeElement.className") == "enlarge"
    small.click()
    dialog.get_by_role("button").click()
    assert not dialog.is_visible()


def shown_strips(page):
    return page.locator("#samples .slot img").evaluate_all(
        "images => images.filter((image) => image.offsetParent).map((image) => image.alt)"
    )


def test_samples_are_flicked_through_with_all_arms_side_by_side(page):
    slider, output = page.locator("#samples input[type=range]"), page.locator("#samples output")
    last = shown_strips(page)
    assert len(last) == 8 and "Samples of arm C, seed 0, at step 1000." in last
    assert "Samples of arm B-80%, seed 0, at step 800." in last
    slider.press("ArrowLeft")
    assert output.inner_text() == "step 600 of 1,000"
    assert slider.get_attribute("aria-valuetext") == "step 600 of 1,000"
    assert "Samples of arm C, seed 0, at step 600." in shown_strips(page)
    earlier = page.locator("#samples button[data-go='-1']")
    earlier.click()
    earlier.click()
    assert output.inner_text() == "step 200 of 1,000"
    page.keyboard.press("ArrowRight")
    assert output.inner_text() == "step 600 of 1,000"
    page.locator("#samples select").select_option("1")
    assert "Samples of arm C, seed 1, at step 600." in shown_strips(page)
    assert len(shown_strips(page)) == 8


def test_tables_are_copied_to_the_clipboard(browser, report):
    with opened(browser, report, permissions=["clipboard-read", "clipboard-write"]) as page:
        for kind, name in (("tex", "LaTeX"), ("csv", "CSV")):
            page.locator(f"[data-copy=main-{kind}]").click()
            page.locator("#table-main [role=status]", has_text=f"Copy {name}: done.").wait_for()
            source = page.locator(f"#main-{kind}").input_value()
            assert page.evaluate("navigator.clipboard.readText()") == source
        assert source.startswith("arm,distance,against B\nB,")


def test_without_a_clipboard_the_text_is_there_to_be_copied(page):
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.locator("[data-copy=main-tex]").click()
    source = page.locator("#main-tex")
    source.wait_for(state="visible")
    assert page.evaluate("getSelection().toString()") == source.input_value()


def test_nothing_makes_the_page_scroll_sideways(page):
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for width in (360, 390, 768):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_shows_all_and_no_buttons(page):
    page.evaluate("window.opened = () => document.querySelectorAll('details:not([open])').length")
    closed = page.evaluate("window.opened()")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert closed > 3 and page.evaluate("window.opened()") == 0
    page.emulate_media(media="print")
    assert page.get_by_role("button").filter(visible=True, has_text="Copy").count() == 0
    assert len(shown_strips(page)) == 8 * 3
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("window.opened()") == closed
    assert page.pdf().startswith(b"%PDF")


def test_a_keyboard_reaches_the_answer_first(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answer"


CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3)
    .map((value) => value / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.body.querySelectorAll("*")]
    .filter((node) => [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
    .map((node) => {
      const style = getComputedStyle(node);
      const ink = node instanceof SVGElement ? style.fill : style.color;
      const [low, high] = [light(ink), light(ground(node))].sort((a, b) => a - b);
      return [(high + 0.05) / (low + 0.05), node.outerHTML.slice(0, 80)];
    });
}"""


def test_all_text_has_the_contrast_of_wcag_aa(still):
    measured = still.evaluate(CONTRAST)
    assert len(measured) > 100
    assert min(measured)[0] >= 4.5, min(measured)
