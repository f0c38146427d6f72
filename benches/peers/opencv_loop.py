#!/usr/bin/env python3
"""What users would write instead: a Python loop over OpenCV with the same models.

For every frame: YuNet at a longest side of 640, then for every face SFace (aligned by OpenCV) and the age
model. Prints the frames a second of the loop, without start-up, as one JSON object.
"""

import argparse
import json
import time

import cv2
import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--models", required=True, help="folder of yunet.onnx, sface.onnx, dlib-age.onnx")
    parser.add_argument("--frames", type=int, default=0, help="stop after this many frames (0 = all)")
    args = parser.parse_args()

    capture = cv2.VideoCapture(args.clip)
    recognizer = cv2.FaceRecognizerSF.create(f"{args.models}/sface.onnx", "")
    age = cv2.dnn.readNetFromONNX(f"{args.models}/dlib-age.onnx")
    detector = None
    frames = faces_found = 0
    start = None
    while args.frames == 0 or frames < args.frames:
        more, frame = capture.read()
        if not more:
            break
        height, width = frame.shape[:2]
        scale = min(1.0, 640 / max(height, width))
        size = (round(width * scale), round(height * scale))
        if detector is None:
            detector = cv2.FaceDetectorYN.create(f"{args.models}/yunet.onnx", "", size, 0.7, 0.3, 5000)
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if scale < 1 else frame
        _, faces = detector.detect(small)
        for face in faces if faces is not None else []:
            face = face.copy()
            face[:14] /= scale
            chip = recognizer.alignCrop(frame, face)
            recognizer.feature(chip)
            x, y, w, h = (int(v) for v in face[:4])
            crop = frame[max(y, 0) : max(y + h, 1), max(x, 0) : max(x + w, 1)]
            blob = cv2.dnn.blobFromImage(crop, 1 / 256, (64, 64), (122.782, 117.001, 104.298), swapRB=True)
            age.setInput(blob)
            np.dot(age.forward()[0], np.r_[0.25, 1:81])
            faces_found += 1
        frames += 1
        # The first frame pays for start-up.
        start = start or time.perf_counter()
    seconds = time.perf_counter() - start
    print(json.dumps({"fps": (frames - 1) / seconds, "frames": frames, "faces": faces_found, "opencv": cv2.__version__}))


if __name__ == "__main__":
    main()
