"""What every page of timburn is held to in Chromium, whatever it shows: check_report.py and check_page.py look with these eyes."""

import os

from playwright.sync_api import Browser, Page, Playwright

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
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) || !element.getClientRects().length) continue;
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
    if (image.getAttribute("aria-hidden") === "true") continue;
    else if (!image.complete || image.naturalWidth === 0) bad.push(`a picture that does not decode: ${image.alt}`);
    else if (!image.alt) bad.push("a picture without description");
  for (const chart of document.querySelectorAll("svg:not([aria-hidden=true])"))
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


def launch(playwright: Playwright, *arguments: str) -> Browser:
    """Chromium without a screen; CHROMIUM names another one than the system's."""
    return playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", *arguments])


def faults(page: Page) -> list[str]:
    """What is wrong with the page as it stands: sideways scrolling, structure, contrast."""
    found = []
    overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        wide = page.evaluate(
            "() => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre'))"
            ".slice(0, 5).map(e => e.tagName + ' ' + e.className)"
        )
        found.append(f"the page scrolls sideways by {overflow} pixels: {wide}")
    found += page.evaluate(STRUCTURE)
    found += [f"contrast: {text}" for text in page.evaluate(CONTRAST)]
    return found
