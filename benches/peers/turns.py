"""Contestants that take turns on one machine, each in a process of its own.

A contestant prints a line of JSON with "ready" when it is warm. Then each line `measure SECONDS` on its stdin is answered with the milliseconds of
its runs, one run unheard before them, and with its peak memory in bytes. `timburn bench --turns`, `rust/` and `serve` below speak so. Within a
round everybody measures once, each round another one first, so that what else the machine does hurts all alike.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def serve(version, work):
    """The contestant's side: speaks until stdin ends; `work` is one run."""
    first = clock(work)
    work()
    print(json.dumps({"ready": True, "version": version, "first_ms": first}), flush=True)
    for line in sys.stdin:
        seconds = float(line.removeprefix("measure "))
        work()
        found, begin = [], time.perf_counter()
        while len(found) < 3 or time.perf_counter() - begin < seconds:
            found.append(clock(work))
        print(json.dumps({"milliseconds": found, "peak_memory": peak_memory()}), flush=True)


def clock(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def peak_memory():
    # `ru_maxrss` would count what the parent held before exec.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


class Contestant:
    """`why` says why there is none."""

    def __init__(self, name, command, f32=True, why=None, **environment):
        self.name, self.f32, self.why = name, f32, why
        self.command, self.environment = command, environment
        self.rounds, self.peak, self.version = [], None, None

    def start(self):
        if self.why:
            return
        self.complaints = tempfile.TemporaryFile("w+")
        # A backtrace would hide the reason.
        environment = dict(os.environ, RUST_BACKTRACE="0", **{key: str(value) for key, value in self.environment.items()})
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(
                [str(part) for part in self.command], env=environment, stdin=pipe, stdout=pipe, stderr=self.complaints, text=True
            )
        except OSError as error:
            self.why = str(error)
            return
        answer = self.hear()
        self.version = (answer or {}).get("version")

    def hear(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                self.why = answer.get("error")
                return answer
        self.complaints.seek(0)
        lines = self.complaints.read().strip().splitlines()
        self.why = f"ended with {self.process.wait()}: {lines[-1] if lines else ''}"
        return None

    def turn(self, seconds):
        if self.why:
            return
        try:
            self.process.stdin.write(f"measure {seconds}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It is gone: its silence says so.
        answer = self.hear()
        if answer and not self.why:
            self.rounds.append(answer["milliseconds"])
            self.peak = answer["peak_memory"]

    def stop(self):
        if process := getattr(self, "process", None):
            process.stdin.close()
            process.wait()

    def result(self, images):
        if not self.rounds:
            return {"contestant": self.name, "why": self.why}
        runs = [run for found in self.rounds for run in found]
        median = statistics.median(runs)
        return {
            "contestant": self.name, "version": self.version, "f32": self.f32, "n": len(runs), "median_ms": median, "min_ms": min(runs),
            "max_ms": max(runs), "images_per_second": images / median * 1e3, "peak_memory": self.peak,
        }  # fmt: skip


def parser(description):
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("name", nargs="?", default="", help="only lines that contain it")
    made.add_argument("--timburn", default="target/release/timburn", help="the binary")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    made.add_argument("--device", default="flex", help="timburn's; with cuda, rocm or metal PyTorch runs on the same GPU, the others stay away")
    made.add_argument("--batch", help="other batches than the lines', with commas between them")
    made.add_argument("--bf16", action="store_true", help="timburn in bf16 too; always on a GPU")
    made.add_argument("--only", default="", help="only contestants that contain one of these, with commas between them")
    made.add_argument("--pause", action="store_true", help="wait for a line on stdin before contestants start, and before they measure")
    made.add_argument("--json", action="store_true", help="JSON instead of a table in Markdown")
    made.add_argument("--chart", help="an SVG file for a bar chart")
    made.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return made


def torch_device(arguments):
    """PyTorch's name of timburn's device."""
    backend, _, index = arguments.device.partition(":")
    name = {"cuda": "cuda", "rocm": "cuda", "metal": "mps"}.get(backend, "cpu")
    return f"{name}:{index}" if index and name == "cuda" else name


def ours(arguments, name, batch, size, *more):
    """timburn itself."""
    command = [arguments.timburn, "bench", name, "--turns", "--device", arguments.device, "--batch", batch, "--size", size, *more]
    yield Contestant("timburn", command, RAYON_NUM_THREADS=arguments.threads)
    if arguments.bf16 or torch_device(arguments) != "cpu":
        yield Contestant("timburn bf16", [*command, "--precision", "bf16"], False, RAYON_NUM_THREADS=arguments.threads)


def batches(arguments, usual):
    return [int(batch) for batch in arguments.batch.split(",")] if arguments.batch else usual


def say(text):
    print(text, file=sys.stderr, flush=True)


def contest(arguments, lines, contestants):
    """`lines` are (name, images, key); `contestants(key)` makes those of a line. Prints rows as they come, the table at the end."""

    def pause(what):
        if arguments.pause:
            say(f"pause: {what}")
            sys.stdin.readline()

    results = []
    try:
        for line in lines:
            if arguments.name in line[0]:
                results.append(one_line(arguments, line, contestants, pause))
    except KeyboardInterrupt:
        say("stopped")
    machine = {"cpu": cpu(), "threads": arguments.threads, "rounds": arguments.rounds, "seconds": arguments.seconds}
    if arguments.chart:
        Path(arguments.chart).write_text(chart(results, machine))
    print(json.dumps({**machine, "results": results}, indent=1) if arguments.json else table(results, machine))


def one_line(arguments, line, contestants, pause):
    name, images, key = line
    pause(f"start {name}")
    entered = [one for one in contestants(key) if any(part in one.name for part in arguments.only.split(","))]
    for one in entered:
        one.start()
    pause(f"measure {name}")
    for number in range(arguments.rounds):
        first = number % len(entered)
        for one in entered[first:] + entered[:first]:
            one.turn(arguments.seconds)
    for one in entered:
        one.stop()
    rows = [one.result(images) for one in entered]
    add_ratios(rows)
    for row in rows:
        say(f"{name:34} {row['contestant']:28} {told(row)}")
    return {"line": name, "images": images, "contestants": rows}


def add_ratios(rows):
    """How many times as fast as the fastest f32 peer each is, by the medians and by the fastest runs."""
    for key, ratio in [("median_ms", "ratio"), ("min_ms", "ratio_of_fastest_runs")]:
        peers = [row for row in rows if row.get("f32") and not row["contestant"].startswith("timburn")]
        best = min((row[key] for row in peers), default=None)
        for row in rows:
            if best and key in row:
                row[ratio] = best / row[key]


def told(row):
    if "n" not in row:
        return f"not measured: {row['why']}"
    peak = f"{row['peak_memory'] / 2**20:6.0f} MB" if row["peak_memory"] else ""
    ratio = f"{row['ratio']:6.2f} x the fastest f32 peer ({row['ratio_of_fastest_runs']:.2f} by the fastest runs)" if "ratio" in row else ""
    spread = f"({row['min_ms']:.2f}-{row['max_ms']:.2f}, n={row['n']})"
    return f"{row['median_ms']:9.2f} ms {spread:30} {row['images_per_second']:8.1f} images/s {peak} {ratio}"


def cpu():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def digits(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(results, machine):
    """Markdown: a row a contestant, a column a line."""
    names = list(dict.fromkeys(row["contestant"] for result in results for row in result["contestants"]))
    found = {(result["line"], row["contestant"]): row for result in results for row in result["contestants"]}
    lines = [result["line"] for result in results]
    text = [f"{machine['cpu']}, {machine['threads']} threads, {machine['rounds']} rounds. Milliseconds, median (min–max); images a second; peak memory.", ""]
    text += ["| | " + " | ".join(lines) + " |", "|---" * (len(lines) + 1) + "|"]
    reasons = {}
    for name in names:
        cells = []
        for line in lines:
            row = found.get((line, name), {"why": "does not take part"})
            if "n" in row:
                median, least, most = (digits(row[key]) for key in ("median_ms", "min_ms", "max_ms"))
                peak = f"; {row['peak_memory'] / 2**20:.0f} MB" if row["peak_memory"] else ""
                cells.append(f"{median} ({least}–{most}); {digits(row['images_per_second'])}/s{peak}")
            else:
                cells.append("–")
                reasons.setdefault(f"{name}: {row['why']}", []).append(line)
        text.append(f"| {name} | " + " | ".join(cells) + " |")
    ours = [name for name in names if name.startswith("timburn")]
    for name in ours:
        ratios = [found.get((line, name), {}) for line in lines]
        cells = [f"{row['ratio']:.2f}× ({row['ratio_of_fastest_runs']:.2f}×)" if "ratio" in row else "–" for row in ratios]
        text.append(f"| {name} against the fastest f32 peer: medians (fastest runs) | " + " | ".join(cells) + " |")
    text += [""] * bool(reasons) + [f"- not measured: {reason} ({', '.join(where)})" for reason, where in reasons.items()]
    return "\n".join(text)


def chart(results, machine):
    """Images a second of each line, each on a scale of its own: lines differ by orders of magnitude."""
    from xml.sax.saxutils import escape

    shapes, y = [], 58

    def text(x, y, size, color, words, anchor="start"):
        shapes.append(f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(words)}</text>')

    for result in results:
        measured = [row for row in result["contestants"] if "n" in row]
        full = max((row["images_per_second"] for row in measured), default=1)
        text(16, y + 6, 13, "#222222", result["line"])
        y += 14
        for row in measured:
            width = 430 * row["images_per_second"] / full
            color = "#0072b2" if row["contestant"].startswith("timburn") else "#aaaaaa"
            text(212, y + 11, 11, "#222222", row["contestant"], "end")
            shapes.append(f'<rect x="220" y="{y + 1}" width="{width:.1f}" height="12" fill="{color}"/>')
            text(226 + round(width), y + 11, 11, "#666666", digits(row["images_per_second"]))
            y += 15
        y += 16
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" viewBox="0 0 720 {y}" font-family="\'DejaVu Sans\', Verdana, sans-serif">'
    title = '<rect width="720" height="100%" fill="#ffffff"/><text x="16" y="28" font-size="17" fill="#222222">Images a second (median)</text>'
    under = f'<text x="16" y="44" font-size="11" fill="#666666">{escape(machine["cpu"])}, {machine["threads"]} threads</text>'
    return "\n".join([head, title, under, *shapes, "</svg>", ""])
