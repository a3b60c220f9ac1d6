"""What check_page.py works with: a running server, a browser window under watch, and files good and bad."""

import json
import os
import re
import subprocess
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import pack

from playwright.sync_api import Browser, Error, Page, Route

from browser_checks import SIZES

ROOT = Path(__file__).resolve().parent.parent
CAT = ROOT / "crates/timburn-data/assets/chelsea.jpg"
COFFEE = ROOT / "crates/timburn-cli/assets/examples/coffee.jpg"

# Milliseconds.
PATIENCE = 150_000

failures: list[str] = []


def check(what: str, fine: bool, detail: object = "") -> None:
    """Prints the outcome of one check and remembers a failure."""
    print(f"{'ok  ' if fine else 'FAIL'} {what}{'' if fine or detail == '' else f': {detail}'}", flush=True)
    if not fine:
        failures.append(what)


class Server:
    """A running `timburn serve`."""

    def __init__(self, binary: Path, *arguments: str, token: str | None = None):
        environment = {name: value for name, value in os.environ.items() if name != "TIMBURN_TOKEN"}
        if token:
            environment["TIMBURN_TOKEN"] = token
        arguments = ("--port", "0", *arguments) if "--port" not in arguments else arguments
        command = [str(binary), "serve", "--json", "--quiet", "--device", "flex", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(command)} ended with {self.process.wait()}")
        self.url = json.loads(line)["address"].rstrip("/")

    def classify(self, picture: bytes) -> list[dict]:
        """The API's answer."""
        request = urllib.request.Request(f"{self.url}/api/classify", picture, {"Content-Type": "image/jpeg"})
        return json.load(urllib.request.urlopen(request, timeout=60))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Visit:
    """A browser window on the page, with what must never happen in it under watch."""

    def __init__(
        self, browser: Browser, url: str, name: str, size: str = "wide", scheme: str = "light", refusals: tuple[int, ...] = (), **options
    ):
        width, height = SIZES[size]
        narrow = {"has_touch": True, "is_mobile": True} if size == "narrow" else {}
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **narrow, **options)
        # Events of a violated policy, beside the console's message on it.
        self.context.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        # Long, for machines that are busy with something else: what is right does not wait.
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.name, self.refusals, self.url, self.found = name, refusals, url, []
        self.page.on("console", lambda message: self.message(message.text, message.type))
        self.page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        self.page.on(
            "request", lambda request: request.url.startswith((url, "blob:" + url, "data:")) or self.found.append(f"request: {request.url}")
        )
        # From the start: choosers are caught once somebody listens, which takes effect a moment later.
        self.page.on("filechooser", lambda _: None)
        self.page.goto(url)

    def message(self, text: str, kind: str) -> None:
        refused = re.match(
            r"Failed to load resource: (?:the server responded with a status of (\d+)|net::ERR_(?:CONNECTION|INTERNET|EMPTY))", text
        )
        status = int(refused[1] or 0) if refused else None
        if status not in self.refusals:
            self.found.append(f"console: {kind} {text}")

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, kind, *_):
        if kind is None:
            check(f"{self.name}: quiet console, policy kept, nothing from elsewhere", not self.found, self.found)
        self.context.close()


@contextmanager
def held(page: Page, what: str) -> Iterator[list[Route]]:
    """Requests of this kind get no answer within the block."""
    routes: list[Route] = []
    page.route(what, lambda route: routes.append(route))
    yield routes
    page.unroute(what)
    for route in routes:
        with suppress(Error):  # The page gave it up itself.
            route.continue_()
    page.wait_for_timeout(100)  # Playwright's own tasks end.


def segment(marker: int, content: bytes) -> bytes:
    return pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Width and height in the frame header."""
    at = 2
    while jpeg[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return int.from_bytes(jpeg[at + 7 : at + 9]), int.from_bytes(jpeg[at + 5 : at + 7])


def gray_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + b"\x80" * width) * height, 1)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


class Files:
    """Pictures and what only calls itself so, in a folder that goes away."""

    def __init__(self, folder: Path):
        coffee = COFFEE.read_bytes()
        comments = [segment(0xFE, b"\0" * 65_000)] * 190
        # Exif of one entry: orientation 6, the top of the picture is its right side.
        exif = segment(0xE1, b"Exif\0\0MM\0*" + pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0))
        contents = {
            "coffee.jpg": coffee,
            "notes.jpg": b"These are words, not a picture.\n" * 20,
            "cut.jpg": coffee[: len(coffee) // 2],
            "empty.jpg": b"",
            "phone.heic": pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
            "12mb.jpg": with_segments(coffee, exif, *comments),
            "48mpx.png": gray_png(8000, 6000),
            "scan.tif": tiff(40, 30),
            "a,b;'c.jpg": coffee,
        }
        for name, content in contents.items():
            setattr(self, re.sub(r"\W", "_", name), folder / name)
            (folder / name).write_bytes(content)
        self.folder = folder

    def __getattr__(self, name: str) -> Path:
        return self.__dict__[name]

    def named(self, name: str) -> Path:
        return self.folder / name


def tiff(width: int, height: int) -> bytes:
    entries = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, width * height),
    ]
    pixels = bytes(range(256)) * (width * height // 256 + 1)
    directory = pack("<H", len(entries)) + b"".join(pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + pack("<I", 0)
    return b"II*\0" + pack("<I", 8 + width * height) + pixels[: width * height] + directory
