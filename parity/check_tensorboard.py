"""Reads back, with TensorBoard's own reader, what timburn's event writer wrote:

    TIMBURN_EVENTS=DIR cargo test --release -p timburn-train -p timburn-models --test run tensorboard
    pip install tensorboard pillow
    python parity/check_tensorboard.py DIR

`--run RUN` instead compares the events of a run of `timburn train`, resumed or not, with its metrics.jsonl, step by step.

`--golden FILE` instead writes the pinned bytes of the writer's unit test, put together by TensorBoard's own classes.
"""

import io
import json
import struct
import sys
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter


def check(folder):
    reader = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0, "images": 0}, purge_orphaned_data=True)
    reader.Reload()
    print(reader.Tags())
    scalars = reader.Scalars("train/loss")
    steps = [event.step for event in scalars]
    # The first file wrote steps 0 to 9; the second resumed at 5 and wrote 6 to 11.
    assert steps == list(range(12)), steps
    for event in scalars:
        written = 1.0 / (event.step + 1) + (100.0 if event.step > 5 else 0.0)
        assert struct.pack("<f", written) == struct.pack("<f", event.value), event
        assert event.wall_time > 1.7e9
    text = reader.Tensors("recipe")[0].tensor_proto
    assert text.string_val[0].decode() == "    epochs = 2\n    name = \"ü\"\n", text
    assert reader.SummaryMetadata("recipe").plugin_data.plugin_name == "text"
    image = reader.Images("plot")[0]
    decoded = Image.open(io.BytesIO(image.encoded_image_string))
    decoded.load()
    assert (image.width, image.height) == decoded.size, (image.width, image.height, decoded.size)
    print(f"ok: {len(scalars)} scalars, 1 text, 1 image of {decoded.size}")


def check_run(folder):
    reader = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=True)
    reader.Reload()
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "evaluation" not in line]
    scores = [line for line in lines if "evaluation" in line]
    expected = {
        "train/loss": [(line["step"], line["loss"]) for line in steps],
        "train/lr": [(line["step"], line["lr"]) for line in steps],
        "validation/top1": [(line["step"], line["top"][0]["accuracy"]) for line in scores],
    }
    for tag, pairs in expected.items():
        found = [(event.step, struct.pack("<f", event.value)) for event in reader.Scalars(tag)]
        wanted = [(step, struct.pack("<f", value)) for step, value in pairs]
        assert found == wanted, (tag, len(found), len(wanted), next((pair for pair in zip(found, wanted) if pair[0] != pair[1]), None))
        print(f"ok: {tag}, {len(found)} steps")
    assert reader.Tensors("recipe"), "the recipe as text"


def golden(path):
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    time = 1_700_000_000.5
    text = TensorProto(dtype=7, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]), string_val=[b"`epochs = 2`"])
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    image = Summary.Image(height=2, width=3, colorspace=3, encoded_image_string=b"png")
    for event in [
        Event(wall_time=time, file_version="brain.Event:2"),
        Event(wall_time=time, step=5, session_log=SessionLog(status=SessionLog.START)),
        Event(wall_time=time, step=5, summary=Summary(value=[Summary.Value(tag="train/loss", simple_value=2.25)])),
        Event(wall_time=time, step=300, summary=Summary(value=[Summary.Value(tag="recipe", tensor=text, metadata=metadata)])),
        Event(wall_time=time, step=7, summary=Summary(value=[Summary.Value(tag="plot", image=image)])),
    ]:
        writer.write(event.SerializeToString(deterministic=True))
    writer.flush()
    with open(path, "w") as file:
        file.write(stream.getvalue().hex() + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--golden":
        golden(sys.argv[2])
    elif sys.argv[1] == "--run":
        check_run(sys.argv[2])
    else:
        check(sys.argv[1])
