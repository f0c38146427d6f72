"""Compares our converted models with the results of check-models.mjs.

Usage: check-models.py REFERENCE.json MODELS-FOLDER   (needs numpy and onnxruntime)
"""

import json
import sys
from pathlib import Path

import numpy
import onnxruntime

LARGEST_DIFFERENCE = 1e-4


def picture(seed: int, size: int) -> numpy.ndarray:
    """The same as in check-models.mjs; height, width, channel."""
    y, x, c = numpy.meshgrid(range(size), range(size), range(3), indexing="ij")
    wave = (x * (seed + 3) + y * (2 * seed + 1) + c * 40) // 2 % 256
    return numpy.where(wave < 128, 2 * wave, 511 - 2 * wave).astype(numpy.float32)


def main() -> int:
    reference = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    worst = 0.0
    for name, results in reference.items():
        folder = Path(sys.argv[2])
        descriptor = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx",
                                               providers=["CPUExecutionProvider"])
        spec = descriptor["input"]
        for seed, outputs in enumerate(results, 1):
            pixels = picture(seed, spec["shape"][2])
            value = (pixels - numpy.float32(spec["mean"])) * numpy.float32(spec["scale"])
            found = session.run(list(outputs), {spec["name"]: value.transpose(2, 0, 1)[None]})
            difference = max(float(numpy.abs(a.ravel() - numpy.float32(b)).max())
                             for a, b in zip(found, outputs.values()))
            print(f"{name}, picture {seed}: largest difference {difference:.1e}")
            worst = max(worst, difference)
    if not worst <= LARGEST_DIFFERENCE:
        print(f"check-models: FAILED: more than {LARGEST_DIFFERENCE}", file=sys.stderr)
        return 1
    print(f"check-models: the same to {worst:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
