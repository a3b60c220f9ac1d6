"""Runs exported ONNX files in onnxruntime and compares with timburn's answers.

    cargo build --release --workspace --example onnx_pairs
    target/release/examples/onnx_pairs DIR all
    python parity/check_onnx.py DIR

Takes files NAME.onnx with NAME.safetensors beside them (`images` and the output), and folders of such pairs. Each file must pass
onnx.checker with shape inference, and each value be within 1e-4 of the largest, for the batch and for its first image alone.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4


def difference(path: Path) -> float:
    onnx.checker.check_model(str(path), full_check=True)
    pair = load_file(path.with_suffix(".safetensors"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert source.name == "images" and isinstance(source.shape[0], str) and target.shape[0] == source.shape[0], path
    assert list(source.shape[1:]) == list(pair["images"].shape[1:]), path
    assert list(target.shape[1:]) == list(pair[target.name].shape[1:]), path
    kind = np.uint8 if source.type == "tensor(uint8)" else np.float32
    worst = 0.0
    for images, expected in ((pair["images"], pair[target.name]), (pair["images"][:1], pair[target.name][:1])):
        (found,) = session.run([target.name], {source.name: images.astype(kind)})
        assert found.shape == expected.shape and np.isfinite(found).all(), path
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(pair[target.name]).max()))
    return worst


def main() -> None:
    paths = [Path(word) for word in sys.argv[1:]]
    files = [file for path in paths for file in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    if not files:
        sys.exit(__doc__)
    differences = []
    for file in files:
        differences.append(difference(file))
        print(f"{differences[-1]:9.2e}  {file.stat().st_size / 1e6:6.1f} MB  {file}")
    bad = sum(value > TOLERANCE for value in differences)
    print(f"{len(files)} files, largest difference {max(differences):.2e} of the largest value, {bad} beyond {TOLERANCE}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
