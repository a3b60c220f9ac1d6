"""One table of timburn and its peers, measured in turns in one session.

    TIMBURN_DATA=DIR python crates/timburn-data/benches/peers/compare.py [ROUNDS] [EXTRA CARGO ARGUMENTS]

Builds the benchmark `decode` and the Rust peers, then runs timburn, the Rust peers and `decode.py` ROUNDS times (5) one after the other. Per
row: images per second, median (min-max) over the rounds, the least CPU time per image, and how many times faster timburn is by that time.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
REFERENCE = {"decode": "timburn", "evaluation": "timburn", "training": "timburn, region"}


def executable(command, folder):
    """Builds and returns the path of the program."""
    output = subprocess.run([*command, "--message-format=json"], cwd=folder, stdout=subprocess.PIPE, check=True, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    return [message["executable"] for message in messages if message.get("executable")][-1]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ours = executable(["cargo", "build", "--release", "-p", "timburn-data", *sys.argv[2:], "--bench", "decode"], ROOT)
    peers = executable(["cargo", "build", "--release"], HERE)
    rows = {}
    for number in range(rounds):
        for command in ([ours, "--rows", "1"], [peers, "--rows", "1"], [sys.executable, str(HERE / "decode.py"), "1"]):
            print(f"round {number + 1}: {Path(command[-2]).name if command[0] == sys.executable else Path(command[0]).name}", file=sys.stderr)
            output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            for line in output.splitlines():
                task, name, workers, rate, cpu = line.split("\t")
                rows.setdefault((task, int(workers), name), []).append((float(rate), float(cpu)))
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    print(f"CPU {model}, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}; 500 photographs, {rounds} rounds\n")
    print("| task | workers | | images/s: median (min-max) | CPU ms/image | timburn is faster by |\n|---|---|---|---|---|---|")
    for (task, workers, name), samples in sorted(rows.items(), key=lambda item: (item[0][0], item[0][1], min(s[1] for s in item[1]))):
        rates, cpu = [rate for rate, _ in samples], min(cpu for _, cpu in samples)
        reference = min(cpu for _, cpu in rows[task, workers, REFERENCE[task]])
        spread = f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"
        print(f"| {task} | {workers} | {name} | {spread} | {cpu:.3f} | {cpu / reference:.2f} |")


if __name__ == "__main__":
    main()
