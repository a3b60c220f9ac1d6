"""Python peers of the benchmark `decode`: PIL, torchvision and OpenCV, with threads and with processes.

Prints rows `task, name, workers, images per second, CPU ms per image`, tab-separated. Needs torchvision, Pillow, opencv-python-headless.
Processes are forked before any thread exists and return nothing: what a data loader pays to move tensors is not in these figures.
"""

import io
import multiprocessing
import os
import resource
import sys
import tarfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import io as tv_io
from torchvision import transforms as v1
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC, BILINEAR = v1.InterpolationMode.BICUBIC, v1.InterpolationMode.BILINEAR
EVALUATION = v1.Compose([v1.Resize(256, BICUBIC), v1.CenterCrop(224), v1.ToTensor(), v1.Normalize(MEAN, STD)])
TRAINING = v1.Compose([v1.RandomResizedCrop(224, interpolation=BILINEAR), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)])
TENSOR = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
EVALUATION_TENSOR = v2.Compose([v2.Resize(256, BICUBIC, antialias=True), v2.CenterCrop(224), *TENSOR])
TRAINING_TENSOR = v2.Compose([v2.RandomResizedCrop(224, interpolation=BILINEAR, antialias=True), v2.RandomHorizontalFlip(), *TENSOR])
CV_MEAN, CV_STD = np.float32(MEAN), np.float32(STD)


def pil(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def tensor(data):
    return tv_io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=tv_io.ImageReadMode.RGB)


def opencv(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def opencv_finish(image):
    return np.ascontiguousarray(((image.astype(np.float32) / 255 - CV_MEAN) / CV_STD).transpose(2, 0, 1))


def opencv_evaluation(data, interpolation):
    image = opencv(data)
    height, width = image.shape[:2]
    scale = 256 / min(height, width)
    size = (256, int(height * scale)) if width <= height else (int(width * scale), 256)
    image = cv2.resize(image, size, interpolation=interpolation)
    top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
    return opencv_finish(image[top : top + 224, left : left + 224])


def opencv_training(data, interpolation):
    image = opencv(data)
    shape = torch.empty(3, *image.shape[:2], device="meta")
    top, left, height, width = v1.RandomResizedCrop.get_params(shape, (0.08, 1.0), (3 / 4, 4 / 3))
    image = cv2.resize(image[top : top + height, left : left + width], (224, 224), interpolation=interpolation)
    return opencv_finish(image[:, ::-1] if torch.rand(1) < 0.5 else image)


STEPS = {
    ("decode", "PIL"): pil,
    ("decode", "torchvision tensor"): tensor,
    ("decode", "OpenCV"): opencv,
    ("evaluation", "PIL + torchvision"): lambda data: EVALUATION(pil(data)),
    ("evaluation", "torchvision tensor"): lambda data: EVALUATION_TENSOR(tensor(data)),
    ("evaluation", "OpenCV area"): lambda data: opencv_evaluation(data, cv2.INTER_AREA),
    ("evaluation", "OpenCV linear"): lambda data: opencv_evaluation(data, cv2.INTER_LINEAR),
    ("training", "PIL + torchvision"): lambda data: TRAINING(pil(data)),
    ("training", "torchvision tensor"): lambda data: TRAINING_TENSOR(tensor(data)),
    ("training", "OpenCV area"): lambda data: opencv_training(data, cv2.INTER_AREA),
    ("training", "OpenCV linear"): lambda data: opencv_training(data, cv2.INTER_LINEAR),
}
FILES = []


def work(task):
    step, indices = task
    for index in indices:
        STEPS[step](FILES[index])


def cpu():
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def setup():
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    setup()
    with tarfile.open(Path(os.environ["TIMBURN_DATA"]) / "imagenet-sample.tar") as archive:
        members = sorted((member for member in archive if member.name.endswith(".JPEG")), key=lambda member: member.name)
        FILES.extend(archive.extractfile(member).read() for member in members)
    count = len(FILES)
    for step in STEPS:
        work((step, range(0, count, 8)))
        for _ in range(repeats):
            for workers, kind in [(1, "threads"), (2, "threads"), (2, "processes")]:
                batches = [(step, range(start, min(start + 10, count))) for start in range(0, count, 10)]
                # The children's CPU time is known once they have ended, so the clocks frame the pool's life; forking costs a few ms.
                cpu_before = cpu()
                pool = ThreadPool(workers) if kind == "threads" else multiprocessing.get_context("fork").Pool(workers, setup)
                begin = time.perf_counter()
                pool.map(work, batches, chunksize=1)
                wall = time.perf_counter() - begin
                pool.close()
                pool.join()
                name = step[1] if kind == "threads" else f"{step[1]}, processes"
                print(f"{step[0]}\t{name}\t{workers}\t{count / wall:.2f}\t{(cpu() - cpu_before) * 1e3 / count:.4f}", flush=True)


if __name__ == "__main__":
    main()
