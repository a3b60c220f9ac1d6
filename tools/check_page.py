"""Uses the page of `timburn serve` in Chromium as visitors do, and fails on what a visitor would stumble over.

    pip install playwright && apt-get install chromium
    cargo build --release
    python tools/check_page.py target/release/timburn SCREENSHOTS [OTHER_MODEL]

Starts the server itself, on a free port. Every state of the page, light and dark, 1280 and 360 pixels wide: no message on the console (but
Chromium's own about answers that are refused on purpose), no violation of the Content-Security-Policy, nothing requested from elsewhere, no
sideways scrolling, contrast of 4.5:1, pictures described. Then what people do: choose, drop, paste, examples, heat map, keyboard alone, a token,
another model, and what goes wrong. Chromium's answers are compared with the API's. Prints each check; the screenshots are for a person to look at.
OTHER_MODEL is a second model to serve (default resnet20.cifar10, which is part of the program). CHROMIUM names another browser.
"""

import json
import logging
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote_plus

from playwright.sync_api import Browser, Page, expect, sync_playwright

from browser_checks import SIZES, faults, launch
from page_harness import CAT, PATIENCE, ROOT, Files, Server, Visit, check, failures, held, jpeg_size

PAGE = ROOT / "crates/timburn-cli/src/serve/page"
MOST_BYTES = 40_000
# What moves once has moved; what turns for ever may.
STILL = "() => document.getAnimations().every(a => a.effect.getTiming().iterations === Infinity || a.playState === 'finished')"
ROWS = """() => [...document.querySelectorAll('#list button')].map(row =>
  [row.querySelector('.label').textContent, row.querySelector('.score').textContent])"""
BARS = """() => [...document.querySelectorAll('#list .bar i')].map(bar =>
  bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width)"""
PRESSED = "() => [...document.querySelectorAll('#list button')].map(row => row.getAttribute('aria-pressed'))"
HEAT = """() => { const heat = document.querySelector('.heat');
  return [heat.naturalWidth, heat.naturalHeight, heat.alt, heat.src.slice(0, 5)]; }"""
COVERS = """() => { const heat = document.querySelector('.heat').getBoundingClientRect(), frame = document.getElementById('frame').getBoundingClientRect();
  return [heat.left - frame.left, heat.top - frame.top, heat.width - frame.width]; }"""
ANSWER, ALERT, CLASSIFY = "#answer:not([hidden])", ".alert", "**/api/classify*"


def looked_at(page: Page, what: str, out: Path, full_page: bool = True) -> None:
    """Checks a state of the page and takes its picture."""
    page.wait_for_function(STILL)
    found = faults(page)
    check(f"{what}: structure, contrast, width", not found, found)
    path = out / f"{what.replace(', ', '-').replace(' ', '-')}.png"
    if not full_page or page.viewport_size["width"] > 500:
        page.screenshot(path=path, full_page=full_page)
        return
    # A picture of the full page would take the touch screen away; a tall phone does not.
    size = page.viewport_size
    page.set_viewport_size({"width": size["width"], "height": page.evaluate("() => document.documentElement.scrollHeight")})
    page.screenshot(path=path)
    page.set_viewport_size(size)


def ready(page: Page) -> Page:
    page.wait_for_selector("#model-bar:not([hidden])")
    return page


def read_answer(page: Page) -> list[tuple[str, str]]:
    page.wait_for_selector(ANSWER)
    return page.evaluate(ROWS)


def agrees(page: Page, server: Server, picture: bytes, how: str) -> None:
    """The page's answer is the API's for the same bytes, top-1 and rows."""
    shown = [(label, float(score.removesuffix("\u00a0%").removeprefix("< "))) for label, score in read_answer(page)]
    told = [(row["label"], max(0.1, 100 * row["score"]) if row["score"] > 0 else 0.0) for row in server.classify(picture)]
    same = len(shown) == len(told) and all(a[0] == b[0] and abs(a[1] - b[1]) < 0.06 for a, b in zip(shown, told))
    best = page.inner_text("#best"), page.inner_text("#best-score")
    check(f"{how}: the answer is the API's, {best[0]} {best[1]}", same and best[0] == told[0][0], (shown, told))


def alert(page: Page, what: str, *words: str) -> None:
    page.wait_for_selector(ALERT)
    text = page.get_by_role("alert").inner_text()
    check(f"{what}: the alert says {words}", all(word in text for word in words), text)


# ---- What the page looks like


def states(browser: Browser, server: Server, files: Files, out: Path) -> None:
    for scheme in ("light", "dark"):
        for size in SIZES:
            where = f"{scheme}, {size}"
            with Visit(browser, server.url, where, size, scheme, refusals=(422,)) as page:
                ready(page)
                looked_at(page, f"{where}, empty", out)
                page.locator("[data-example]").nth(0).click()
                page.wait_for_selector(ANSWER)
                looked_at(page, f"{where}, answer", out)
                page.get_by_role("switch").check()
                page.wait_for_selector(".heat")
                looked_at(page, f"{where}, heat map", out)
                page.get_by_role("link", name="Model card").click()
                page.wait_for_selector("#text-dialog[open]")
                looked_at(page, f"{where}, model card", out, full_page=False)
                page.keyboard.press("Escape")
                page.set_input_files("#file", files.notes_jpg)
                alert(page, f"{where}, not a picture", "This is not a picture", "notes.jpg")
                looked_at(page, f"{where}, not a picture", out)
                page.set_input_files("#file", files.cut_jpg)
                page.wait_for_selector("#figure:not([hidden])")
                alert(page, f"{where}, cut off", "cannot be read")
                looked_at(page, f"{where}, cut off", out)
                page.evaluate("() => { document.getElementById('dropping').hidden = false; }")
                looked_at(page, f"{where}, dropping", out, full_page=False)
            with Visit(browser, server.url, f"{where}, waiting", size, scheme) as page, held(page, CLASSIFY):
                page.locator("[data-example]").nth(2).click()
                page.wait_for_selector("#waiting:not([hidden])")
                looked_at(page, f"{where}, waiting", out)
    with Visit(browser, server.url, "on a phone", "narrow") as page:
        check("on a phone: the camera is offered, keys are not", page.is_visible("#camera") and not page.is_visible(".hint"))
        check("on a phone: the camera's input asks for the camera", page.get_attribute("#shot", "capture") == "environment")
    with Visit(browser, server.url, "on a desk") as page:
        check("on a desk: no camera, but keys", not page.is_visible("#camera") and page.is_visible(".hint"))
    for motion, moving in (("no-preference", True), ("reduce", False)):
        with Visit(browser, server.url, f"motion {motion}", reduced_motion=motion) as page, held(page, CLASSIFY):
            page.locator("[data-example]").nth(0).click()
            page.wait_for_selector("#waiting:not([hidden])")
            check(
                f"motion {motion}: {'something' if moving else 'nothing'} moves",
                page.evaluate("() => document.getAnimations().length > 0") == moving,
            )


# ---- The ways a picture comes in


def ways_in(browser: Browser, server: Server, files: Files) -> None:
    coffee = files.coffee_jpg.read_bytes()
    with Visit(browser, server.url, "file picker") as page:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a picture").click()
        chooser.value.set_files(files.coffee_jpg)
        agrees(page, server, coffee, "file picker")
        timing = page.inner_text("#timing")
        check("file picker: latency of the model and in all", re.fullmatch(r"Model \d+\sms, in all \d+\sms", timing) is not None, timing)
        model, total = map(int, re.findall(r"\d+", timing))
        check("file picker: the model takes a part of the whole", 0 < model <= total, timing)
        check("file picker: a screen reader is told", page.inner_text("#best") in page.get_by_role("status").all_inner_texts()[-1])
        check("file picker: the title names the answer", page.title().startswith(page.inner_text("#best")), page.title())
        scores = [row["score"] for row in server.classify(coffee)]
        page.wait_for_function(STILL)
        widths = page.evaluate(BARS)
        check(
            "file picker: bars as long as the scores", all(abs(w - max(0.005, s)) < 0.01 for w, s in zip(widths, scores)), (widths, scores)
        )

    with Visit(browser, server.url, "drop") as page:
        session = page.context.new_cdp_session(page)

        def drag(paths: list[Path], *kinds: str, text: str = "") -> None:
            items = [{"mimeType": "text/plain", "data": text}] if text else []
            data = {"items": items, "files": [str(path) for path in paths], "dragOperationsMask": 1}
            for kind in kinds or ("dragEnter", "dragOver", "drop"):
                session.send("Input.dispatchDragEvent", {"type": kind, "x": 30, "y": 700, "data": data})

        drag([files.coffee_jpg], "dragEnter", "dragOver")
        page.wait_for_selector("#dropping:not([hidden])")
        check("drop: the whole page says that it takes it", page.is_visible("#dropping"))
        drag([files.coffee_jpg], "drop")
        agrees(page, server, coffee, "drop, at the edge of the page")
        check("drop: the veil is gone", not page.is_visible("#dropping"))
        drag([], text="words")
        alert(page, "drop of words", "no picture in what you dropped")
        check("drop of words: the answer before stays", page.is_visible(ANSWER))
        drag([CAT, files.coffee_jpg])
        expect(page.locator("#note")).to_contain_text("first of 2")
        agrees(page, server, CAT.read_bytes(), "drop of two")

    with Visit(browser, server.url, "paste", permissions=["clipboard-read", "clipboard-write"]) as page:
        png = page.evaluate(
            """async jpeg => {
              const image = await createImageBitmap(await (await fetch(jpeg)).blob());
              const canvas = new OffscreenCanvas(image.width, image.height);
              canvas.getContext("2d").drawImage(image, 0, 0);
              const blob = await canvas.convertToBlob({ type: "image/png" });
              await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
              return [...new Uint8Array(await blob.arrayBuffer())];
            }""",
            "examples/coffee.jpg",
        )
        page.keyboard.press("Control+V")
        page.wait_for_selector(ANSWER)
        check("paste from the clipboard: the picture is classified", page.inner_text("#best") == server.classify(bytes(png))[0]["label"])
        page.evaluate("() => navigator.clipboard.writeText('words')")
        page.keyboard.press("Control+V")
        alert(page, "paste of words", "no picture in what you pasted")

    with Visit(browser, server.url, "examples") as page:
        for button in page.locator("[data-example]").all():
            picture = urllib.request.urlopen(f"{server.url}/{button.get_attribute('data-example')}").read()
            name = button.get_attribute("data-example").split("/")[1]
            button.click()
            expect(page.locator("#frame img")).to_have_attribute("alt", f"Your picture, {name}")
            agrees(page, server, picture, f"example {name}")


# ---- What a visitor does with an answer


def heat_map(browser: Browser, server: Server) -> None:
    with Visit(browser, server.url, "heat map") as page:
        page.locator("[data-example]").nth(0).click()
        labels = [label for label, _ in read_answer(page)]
        switch = page.get_by_role("switch", name="Show where the model looked")
        switch.check()
        page.wait_for_selector(".heat")
        shown = page.evaluate(HEAT)
        size = json.load(urllib.request.urlopen(f"{server.url}/api/models"))[0]["input"]
        check(
            "heat map: a picture of the model's input, described",
            shown[:2] == size[::-1] and labels[0] in shown[2] and shown[3] == "blob:",
            shown,
        )
        check("heat map: the best class is marked", page.evaluate(PRESSED) == ["true"] + ["false"] * 4, page.evaluate(PRESSED))
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.locator("#list button").nth(2).click()
        page.wait_for_function("label => document.querySelector('.heat')?.alt.endsWith(label)", arg=labels[2])
        named = any(url.endswith(f"class={quote_plus(labels[2])}") for url in asked)
        check("heat map: another class by its row", page.evaluate(PRESSED).index("true") == 2 and named, asked)
        covers = page.evaluate(COVERS)
        check("heat map: in the picture's place", all(abs(value) < 1 for value in covers), covers)
        switch.uncheck()
        gone = page.locator(".heat").count() == 0 and "true" not in page.evaluate(PRESSED) and page.inner_text("#caption") == ""
        check("heat map: off, the picture is back", gone and page.is_visible("#frame img"))
        with held(page, "**/api/explain*"):
            switch.check()
            expect(page.locator("body")).to_have_class("full explaining")
            switch.uncheck()
            expect(page.locator("body")).to_have_class("full")
        check("heat map: off again while it is computed", page.locator(".heat").count() == 0)


def keyboard(browser: Browser, server: Server, files: Files) -> None:
    focused = """() => { const e = document.activeElement, s = getComputedStyle(e);
      return [e.id || e.className || e.dataset.example || e.textContent.trim(), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; }"""

    def stops(page: Page, count: int) -> list[str]:
        names = []
        for _ in range(count):
            page.keyboard.press("Tab")
            name, visible = page.evaluate(focused)
            names.append(name)
            if not visible:
                check(f"keyboard: focus on `{name}` can be seen", False)
        return names

    with Visit(browser, server.url, "keyboard") as page:
        ready(page)
        order = stops(page, 9)
        expected = ["skip", "model", "card", "choose", "examples/cat.jpg", "examples/coffee.jpg", "examples/rocket.jpg", "copy", "openapi"]
        check("keyboard: Tab goes through everything in order, focus always seen", order == expected, order)
        page.locator(".skip").focus()
        page.keyboard.press("Enter")
        check("keyboard: the skip link leads to the content", page.evaluate("() => document.activeElement.id") == "main")
        check("keyboard: and on to the first button", stops(page, 1) == ["choose"])
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(files.coffee_jpg)
        page.wait_for_selector(ANSWER)
        check("keyboard: the focus stays where it was", page.evaluate(focused)[0] == "choose", page.evaluate(focused))
        check("keyboard: switch and rows follow", stops(page, 6)[0] == "cam")
        page.locator("#cam").focus()
        page.keyboard.press("Space")
        page.wait_for_selector(".heat")
        stops(page, 2)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelectorAll('#list button')[1].ariaPressed === 'true' && document.querySelector('.heat')"
        )
        page.keyboard.press("Space")
        page.wait_for_function("() => !document.querySelector('.heat')")
        check("keyboard: heat map by Space and by Enter on a row", not page.is_checked("#cam"))
        page.locator("[data-example]").nth(2).focus()
        page.keyboard.press("Space")
        expect(page.locator("#frame img")).to_have_attribute("alt", "Your picture, rocket.jpg")
        page.locator("#card").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#text-dialog[open]")
        check(
            "keyboard: the model card takes the focus",
            page.evaluate("() => document.getElementById('text-dialog').contains(document.activeElement)"),
        )
        page.keyboard.press("Escape")
        check("keyboard: Escape leads back to the link", page.evaluate("() => document.activeElement.id") == "card")
        for role in ("banner", "main", "contentinfo", "status", "switch", "combobox"):
            check(f"screen reader: {role}", page.get_by_role(role).count() >= 1)
        check(
            "screen reader: every control has a name",
            page.evaluate(
                "() => [...document.querySelectorAll('button, input:not([hidden]), select, a')].filter(e => e.getClientRects().length)"
                ".every(e => (e.ariaLabel || e.labels?.[0]?.textContent || e.querySelector('img')?.alt || e.textContent).trim())"
            ),
        )


def from_a_program(browser: Browser, server: Server, files: Files) -> None:
    with Visit(browser, server.url, "curl", permissions=["clipboard-read", "clipboard-write"]) as page:
        ready(page)
        for name in ("coffee.jpg", "a,b;'c.jpg"):
            page.set_input_files("#file", files.named(name))
            page.wait_for_selector(ANSWER)
            expect(page.locator("#frame img")).to_have_attribute("alt", f"Your picture, {name}")
            page.get_by_role("button", name="Copy").click()
            expect(page.locator("#copy")).to_have_text("Copied")
            command = page.evaluate("() => navigator.clipboard.readText()")
            (files.folder / "picture.jpg").write_bytes(files.coffee_jpg.read_bytes())
            ran = subprocess.run(["sh", "-c", command.replace("curl ", "curl -sS ", 1)], cwd=files.folder, capture_output=True, text=True)
            fine = ran.returncode == 0 and json.loads(ran.stdout) == server.classify(files.coffee_jpg.read_bytes())
            check(f"curl for `{name}`: the copied command runs and answers the same", fine, (command, ran.stdout, ran.stderr))
            expect(page.locator("#copy")).to_have_text("Copy")


def models(browser: Browser, server: Server) -> None:
    with Visit(browser, server.url, "models") as page:
        ready(page)
        names = [row["name"] for row in json.load(urllib.request.urlopen(f"{server.url}/api/models"))]
        chooser = page.get_by_role("combobox", name="Model")
        check("models: all can be chosen", chooser.locator("option").all_inner_texts() == names, names)
        page.locator("[data-example]").nth(0).click()
        before = read_answer(page)
        with page.expect_response(lambda response: "/api/classify" in response.url) as response:
            chooser.select_option(names[1])
        page.wait_for_selector(ANSWER)
        after = read_answer(page)
        check(
            "models: another one is asked about the same picture",
            f"model={names[1]}" in response.value.url and after != before,
            (response.value.url, after),
        )
        check("models: the command names it", f"model={names[1]}" in page.inner_text("#curl"))
        page.get_by_role("switch").check()
        page.wait_for_selector(".heat")
        page.get_by_role("link", name="Model card").click()
        page.wait_for_selector("#text-dialog[open]")
        text = page.inner_text("#text")
        check(
            "models: its card, as a table",
            names[1] in page.inner_text("#text h3") and page.locator("#text dt").count() > 3 and "|" not in text and "\\_" not in text,
            text[:300],
        )


# ---- What goes wrong


def errors(browser: Browser, server: Server, files: Files) -> None:
    with Visit(browser, server.url, "not pictures", refusals=(415, 422)) as page:
        posted = []
        page.on("request", lambda request: request.method == "POST" and posted.append(request.url))
        for name, words in (
            ("notes.jpg", ("This is not a picture", "notes.jpg")),
            ("empty.jpg", ("empty",)),
            ("phone.heic", ("HEIC", "JPEG")),
        ):
            page.set_input_files("#file", files.named(name))
            alert(page, name, *words)
            page.evaluate("() => document.getElementById('alert').replaceChildren()")
        check("not pictures: none was sent", not posted, posted)
        page.set_input_files("#file", files.cut_jpg)
        alert(page, "cut.jpg", "cannot be read")
        check("cut.jpg: the server was asked", len(posted) == 1, posted)
        page.set_input_files("#file", files.scan_tif)
        page.wait_for_selector(ANSWER)
        check(
            "scan.tif: classified though Chromium cannot show it", "cannot show TIFF" in page.inner_text("#note"), page.inner_text("#note")
        )

    for name, size in (("12mb.jpg", (400, 600)), ("48mpx.png", (2048, 1536))):
        with Visit(browser, server.url, name) as page:
            sent = []
            page.route(CLASSIFY, lambda route: (sent.append(route.request.post_data_buffer), route.continue_()))
            page.set_input_files("#file", files.named(name))
            page.wait_for_selector(ANSWER)
            note = page.inner_text("#note")
            check(
                f"{name}: made smaller in the browser, turned as Exif says, and said so",
                jpeg_size(sent[0]) == size and "smaller" in note,
                (jpeg_size(sent[0]), note),
            )
            check(f"{name}: small", len(sent[0]) < 2_000_000, len(sent[0]))

    with Visit(browser, server.url, "overloaded", refusals=(503,)) as page:
        busy = {
            "status": 503,
            "headers": {"Retry-After": "1", "X-Request-Id": "r-1"},
            "json": {"error": "the queue is full; try again in a moment", "code": "overloaded"},
        }
        answers = [busy, busy]
        page.route(CLASSIFY, lambda route: route.fulfill(**answers.pop()) if answers else route.continue_())
        page.locator("[data-example]").nth(1).click()
        alert(page, "overloaded", "The server is busy", "The queue is full", "by itself", "r-1")
        page.wait_for_selector(ANSWER)
        check("overloaded: asked again by itself until it answered", not answers and page.locator(ALERT).count() == 0)

    with Visit(browser, server.url, "offline", refusals=(0,)) as page:
        ready(page)
        page.context.set_offline(True)
        page.set_input_files("#file", files.coffee_jpg)
        alert(page, "offline", "You are offline", "goes on by itself")
        page.context.set_offline(False)
        page.wait_for_selector(ANSWER)
        check("offline: goes on by itself when the network is back", page.locator(ALERT).count() == 0)

    with Visit(browser, server.url, "a newer picture") as page:
        dropped = []
        page.on("requestfailed", lambda request: dropped.append(request.failure))
        with held(page, CLASSIFY) as routes:
            page.locator("[data-example]").nth(0).click()
            page.wait_for_selector("#waiting:not([hidden])")
            page.set_input_files("#file", files.coffee_jpg)
            expect(page.locator("#frame img")).to_have_attribute("alt", "Your picture, coffee.jpg")
            page.wait_for_timeout(300)
            check("a newer picture: both were asked about", len(routes) == 2, len(routes))
        agrees(page, server, files.coffee_jpg.read_bytes(), "a newer picture")
        check("a newer picture: the request before was given up", any("ABORTED" in text for text in dropped), dropped)


def killed(browser: Browser, binary: Path, files: Files) -> None:
    server = Server(binary)
    try:
        with Visit(browser, server.url, "server killed", refusals=(0,)) as page:
            ready(page)
            server.kill()
            page.set_input_files("#file", files.coffee_jpg)
            alert(page, "server killed", "The server cannot be reached", "Check that it runs")
            server = Server(binary, "--port", server.url.rsplit(":", 1)[1])
            page.get_by_role("button", name="Try again").click()
            agrees(page, server, files.coffee_jpg.read_bytes(), "server back")
    finally:
        server.kill()


def token(browser: Browser, binary: Path, files: Files, out: Path) -> None:
    server = Server(binary, token="open-sesame")
    try:
        for scheme in ("light", "dark"):
            with Visit(browser, server.url, f"token, {scheme}", scheme=scheme, refusals=(401,)) as page:
                page.wait_for_selector("#token-dialog[open]")
                check(f"token, {scheme}: asked for, the field has the focus", page.evaluate("() => document.activeElement.id") == "token")
                looked_at(page, f"{scheme}, token", out, full_page=False)
        with Visit(browser, server.url, "token", refusals=(401,)) as page:
            page.wait_for_selector("#token-dialog[open]")
            page.keyboard.press("Escape")
            alert(page, "token, cancelled", "A token is needed")
            looked_at(page, "token, cancelled", out)
            page.set_input_files("#file", files.coffee_jpg)
            page.wait_for_selector("#token-dialog[open]")
            page.keyboard.type("open-says-me")
            page.keyboard.press("Enter")
            expect(page.locator("#token-title")).to_have_text("This token was not accepted")
            page.keyboard.type("open-sesame")
            page.keyboard.press("Enter")
            ready(page)
            page.wait_for_selector(ANSWER)
            check("token: a wrong one is said to be wrong, with the right one the picture is classified", page.locator(ALERT).count() == 0)
            check("token: in the command by name only", "$TIMBURN_TOKEN" in page.inner_text("#curl") and "sesame" not in page.content())
            for link in ("#card", "#openapi"):
                page.click(link)
                page.wait_for_selector("#text-dialog[open]")
                check(f"token: {link} opens with it", len(page.inner_text("#text")) > 100)
                page.keyboard.press("Escape")
            page.reload()
            ready(page)
            check("token: kept over a reload", not page.is_visible("#token-dialog"))
            kept = page.evaluate("() => [sessionStorage.getItem('token'), localStorage.length, document.cookie]")
            check("token: in this tab only", kept == ["open-sesame", 0, ""], kept)
    finally:
        server.kill()


def main() -> int:
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    binary, out, other = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), (sys.argv[3:] or ["resnet20.cifar10"])[0]
    out.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    # Playwright leaves tasks behind for requests that get no answer, which asyncio would tell.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    started = time.monotonic()
    size = sum(path.stat().st_size for path in PAGE.iterdir())
    check(f"the page is small: {size} bytes", size < MOST_BYTES)
    server = Server(binary, "efficientnet_lite0.in1k", other)
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            files, browser = Files(Path(folder)), launch(playwright)
            parts = {
                "states": lambda: states(browser, server, files, out),
                "ways in": lambda: ways_in(browser, server, files),
                "heat map": lambda: heat_map(browser, server),
                "keyboard": lambda: keyboard(browser, server, files),
                "from a program": lambda: from_a_program(browser, server, files),
                "models": lambda: models(browser, server),
                "errors": lambda: errors(browser, server, files),
                "killed": lambda: killed(browser, binary, files),
                "token": lambda: token(browser, binary, files, out),
            }
            for name, part in parts.items():
                try:
                    part()
                except Exception as error:  # A part that cannot go on is one failure, not the end of the others.
                    check(name, False, error)
            browser.close()
    finally:
        server.kill()
    print(f"{len(failures)} failed, {time.monotonic() - started:.0f} s; now look at {out}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
