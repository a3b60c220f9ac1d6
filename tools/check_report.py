"""Opens a report in Chromium as a reader would, and fails on what a reader would stumble over.

    pip install playwright && apt-get install chromium
    python tools/check_report.py RUN/report.html SCREENSHOTS

Light and dark, 1280 and 360 pixels wide, and printed: no message on the console, nothing requested but the file itself, no sideways
scrolling of the page, every picture decoded and described, text of at least 4.5:1 contrast, headings in order, all of it reachable by
keyboard. The screenshots are for a person to look at. CHROMIUM names another browser than /usr/bin/chromium.
"""

import os
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

SIZES = {"wide": (1280, 900), "narrow": (360, 740)}

# Contrast by WCAG 2.1 of all text on its own background, outside of charts.
CONTRAST = """
() => {
  const channel = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const background = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *:not(svg):not(svg *)")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const a = luminance(parse(getComputedStyle(element).color)), b = luminance(background(element));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) bad.push(`${element.tagName} "${element.textContent.trim().slice(0, 40)}": ${contrast.toFixed(2)}`);
  }
  return bad;
}
"""

STRUCTURE = """
() => {
  const bad = [];
  for (const image of document.images)
    if (!image.complete || image.naturalWidth === 0) bad.push(`a picture that does not decode: ${image.alt}`);
    else if (!image.alt) bad.push("a picture without description");
  for (const chart of document.querySelectorAll("svg"))
    if (!chart.getAttribute("aria-label")) bad.push("a chart without description");
  let before = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const level = Number(heading.tagName[1]);
    if (level > before + 1) bad.push(`${heading.tagName} "${heading.textContent}" after h${before}`);
    before = level;
  }
  if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
  for (const table of document.querySelectorAll("table"))
    if (!table.caption || !table.querySelector("th[scope=col]")) bad.push("a table without caption or heads");
  for (const box of document.querySelectorAll(".scroll"))
    if (box.scrollWidth > box.clientWidth && box.tabIndex !== 0) bad.push("a scrolling box out of the keyboard's reach");
  return bad;
}
"""


def problems(page: Page, path: Path, scheme: str, width: int) -> list[str]:
    found = []
    page.on("console", lambda message: found.append(f"console: {message.type} {message.text}"))
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or found.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(details => details.open = true)")
    overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        wide = page.evaluate(
            "() => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre'))"
            ".slice(0, 5).map(e => e.tagName + ' ' + e.className)"
        )
        found.append(f"the page scrolls sideways by {overflow} pixels: {wide}")
    found += page.evaluate(STRUCTURE)
    found += [f"contrast: {text}" for text in page.evaluate(CONTRAST)]
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
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"])
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
