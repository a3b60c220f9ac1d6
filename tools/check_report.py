"""Opens a report in Chromium as a reader would, and fails on what a reader would stumble over.

    pip install playwright && apt-get install chromium
    python tools/check_report.py RUN/report.html SCREENSHOTS

Light and dark, 1280 and 360 pixels wide, and printed: no message on the console, nothing requested but the file itself, no sideways
scrolling of the page, every picture decoded and described, text of at least 4.5:1 contrast, headings in order, all of it reachable by
keyboard. The screenshots are for a person to look at. CHROMIUM names another browser than /usr/bin/chromium.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from browser_checks import SIZES, faults, launch


def problems(page: Page, path: Path, scheme: str, width: int) -> list[str]:
    found = []
    page.on("console", lambda message: found.append(f"console: {message.type} {message.text}"))
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or found.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(details => details.open = true)")
    found += faults(page)
    page.keyboard.press("Tab")
    first = page.evaluate("() => document.activeElement.className")
    if first != "skip":
        found.append(f"the first stop of the keyboard is `{first}`, not the link to the content")
    return [f"{scheme}, {width} pixels: {text}" for text in found]


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    path, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    found = []
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for scheme in ("light", "dark"):
            for name, (width, height) in SIZES.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                found += problems(page, path, scheme, width)
                page.evaluate("() => { document.querySelectorAll('details').forEach(details => details.open = false); document.activeElement.blur(); }")
                page.screenshot(path=out / f"{scheme}-{name}.png", full_page=True)
                page.close()
        page = browser.new_page()
        page.goto(path.as_uri())
        page.pdf(path=out / "print.pdf", format="A4", margin={side: "15mm" for side in ("top", "bottom", "left", "right")})
        browser.close()
    print("\n".join(found) if found else f"{path}: {path.stat().st_size / 1e6:.2f} MB, no problem found; now look at {out}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
