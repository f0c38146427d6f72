#!/usr/bin/env python3
"""Where OpenCV's FaceDetectorYN sees faces, frame by frame: what an anonymised video must hide.

    python visible.py --media DIR --yunet FILE -o visible.json

The frames are decoded by gst-launch-1.0, so they are those that the tests see.
"""

import argparse
import hashlib
import json
import shlex
import subprocess
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

LONGEST = 640
SCORE = 0.7
NMS = 0.3
TOP_K = 5000

CLIP = 'filesrc location="{media}/%s" ! decodebin ! videoconvert ! '
PANE = CLIP + "videoscale ! video/x-raw,width=640,height=360 ! queue ! mix.sink_%d"
# Name: the pipeline up to raw video, and the size of its frames.
STREAMS = {
    "street": CLIP % "WolfgangLanger_Pexels.mp4" + "identity",
    # The same five times as fast: faces move far between two frames.
    "hasty": CLIP % "WolfgangLanger_Pexels.mp4"
    + "videorate ! video/x-raw,format=I420,framerate=5/1 ! rawvideoparse width=640 height=360"
    " framerate=25/1 ! identity",
    "selfie": CLIP % "single_face.mp4" + "identity",
    # A face, then a cut to a title; and the other way around.
    "vanishing": CLIP % "face_noface.mov" + "identity",
    "appearing": CLIP % "noface_face.mov" + "identity",
    "mosaic": " ".join(
        [
            PANE % ("WolfgangLanger_Pexels.mp4", 0),
            PANE % ("single_face.mp4", 1),
            'filesrc location="{media}/0-f15-hao-ph.jpg" ! jpegdec ! videoconvert ! videoscale !'
            " video/x-raw,width=360,height=360 ! imagefreeze num-buffers=150 !"
            " video/x-raw,framerate=30/1 ! queue ! mix.sink_2",
            "compositor name=mix sink_1::xpos=640 sink_2::xpos=1390 !"
            " video/x-raw,width=1920,height=360,framerate=30/1 ! identity eos-after=150",
        ]
    ),
}


def frames(pipeline, media):
    """BGR frames of a pipeline."""
    line = pipeline.replace("{media}", str(media.resolve()))
    caps = "video/x-raw,format=BGR"
    base = ["gst-launch-1.0", "-v"] + shlex.split(line)
    probe = base + shlex.split(f"! videoconvert ! {caps} ! identity eos-after=2 ! fakesink name=end")
    printed = subprocess.run(probe, capture_output=True, text=True, check=True).stdout
    shown = [text for text in printed.splitlines() if "end.GstPad:sink: caps" in text][-1]
    side = lambda name: int(shown.split(f"{name}=(int)")[1].split(",")[0])
    width, height = side("width"), side("height")
    command = ["gst-launch-1.0", "-q"] + shlex.split(line)
    command += shlex.split(f"! videoconvert ! {caps} ! fdsink")
    stride = (3 * width + 3) // 4 * 4
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while data := process.stdout.read(stride * height):
            rows = np.frombuffer(data, np.uint8).reshape(height, stride)
            yield np.ascontiguousarray(rows[:, : 3 * width].reshape(height, width, 3))


def detect(detector, bgr):
    """Boxes x, y, w, h in pixels of `bgr`."""
    height, width = bgr.shape[:2]
    scale = min(1.0, LONGEST / max(width, height))
    size = (round(width * scale), round(height * scale))
    image = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA) if scale < 1 else bgr
    detector.setInputSize(size)
    rows = detector.detect(image)[1]
    factors = np.array([width / size[0], height / size[1]] * 2)
    return [] if rows is None else [[round(float(v), 1) for v in row[:4] * factors] for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--yunet", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    detector = cv2.FaceDetectorYN.create(str(args.yunet), "", (LONGEST, LONGEST), SCORE, NMS, TOP_K)
    parts = []
    for name, pipeline in STREAMS.items():
        boxes = [detect(detector, frame) for frame in frames(pipeline, args.media)]
        print(f"{name}: {len(boxes)} frames, {sum(map(len, boxes))} faces")
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in boxes)
        parts.append(f'{json.dumps(name)}: {{"pipeline": {json.dumps(pipeline)}, "frames": [\n{rows}]}}')
    versions = {
        "opencv-python-headless": metadata.version("opencv-python-headless"),
        "yunet_sha256": hashlib.sha256(args.yunet.read_bytes()).hexdigest(),
    }
    text = f'{{"versions": {json.dumps(versions)}, "streams": {{\n' + ",\n".join(parts) + "\n}}\n"
    json.loads(text)
    args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
