#!/usr/bin/env python3
"""The expected output of `facepipe evaluate`, computed by motmetrics.

    expected.py FOLDER > FOLDER/expected.json

motmetrics gives recall, precision, IDF1, MOTA and switches; names, ages and genders are counted here,
the latter two on the pairs that motmetrics matched.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import motmetrics as mm
import numpy as np

IOU = 0.5
METRICS = ["recall", "precision", "idf1", "mota", "num_switches", "num_objects", "num_predictions"]


def read_cvat(path):
    """Labels (track, name, box, age, gender) by frame, the labelled frames, and the size."""
    root = ElementTree.parse(path).getroot()
    task = root.find("meta/task")
    span = range(int(task.findtext("start_frame")), int(task.findtext("stop_frame")) + 1)
    size = [float(task.findtext(f"original_size/{side}")) for side in ("width", "height")]
    labels = defaultdict(list)
    for number, track in enumerate(root.iter("track")):
        keys = []
        for box in track.iter("box"):
            about = {a.get("name"): a.text for a in box.iter("attribute")}
            left, top, right, bottom = (float(box.get(k)) for k in ("xtl", "ytl", "xbr", "ybr"))
            rect = np.array([left, top, right - left, bottom - top])
            keys.append((int(box.get("frame")), box.get("outside") == "1", rect, about))
        for i, (frame, outside, rect, about) in enumerate(keys):
            if outside:
                continue
            end = keys[i + 1][0] if i + 1 < len(keys) else frame + 1
            target = rect if i + 1 == len(keys) or keys[i + 1][1] else keys[i + 1][2]
            for f in range(frame, end):
                box = rect + (target - rect) * (f - frame) / (end - frame)
                name = about.get("name", track.get("label"))
                labels[f].append((number, name, box, float(about["age"]), about["gender"]))
    return labels, span, size


def read_mot(path):
    labels = defaultdict(list)
    for frame, number, x, y, w, h, flag, *_ in np.loadtxt(path, delimiter=","):
        if flag:
            box = np.array([x - 1, y - 1, w, h])
            labels[int(frame) - 1].append((int(number), str(int(number)), box, None, None))
    return labels, None, None


def overlap(a, b):
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return w > 0 and h > 0


def evaluate(result, truth, predicted):
    labels, span, size = (read_cvat if truth.suffix == ".xml" else read_mot)(truth)
    accumulator = mm.MOTAccumulator()
    faces_total = right = boxes = boxes_named = 0
    ages, genders = [], []
    for line in map(json.loads, result.read_text().splitlines()):
        if line["type"] != "frame" or (span and line["frame"] not in span):
            continue
        faces = [f for f in line["faces"] if predicted or not f.get("predicted")]
        here = sorted(labels[line["frame"]], key=lambda label: label[0])
        scale = [line["width"] / size[0], line["height"] / size[1]] * 2 if size else [1] * 4
        rects = [label[2] * scale for label in here]
        found = [np.array(f["box"]) for f in faces]
        distances = np.array(
            [[1 - mm.distances.boxiou(a, b) for b in found] for a in rects]
        ).reshape(len(rects), len(found))
        distances[distances > 1 - IOU] = np.nan
        accumulator.update(
            [label[0] for label in here], [f["track"] for f in faces], distances, line["frame"]
        )
        faces_total += len(faces)
        boxes += len(here)
        hits = [
            [overlap(r, b) and f.get("name") == label[1] for b, f in zip(found, faces)]
            for r, label in zip(rects, here)
        ]
        right += sum(any(row[j] for row in hits) for j in range(len(faces)))
        boxes_named += sum(map(any, hits))
        events = accumulator.mot_events.loc[line["frame"]] if len(here) or len(faces) else None
        if events is None:
            continue
        for event in events[events.Type.isin(["MATCH", "SWITCH"])].itertuples():
            label = next(lb for lb in here if lb[0] == event.OId)
            face = next(f for f in faces if f["track"] == event.HId)
            if label[3] is not None and "age" in face:
                ages.append(abs(face["age"] - label[3]))
            if label[4] is not None and "gender" in face:
                genders.append(face["gender"] == label[4])
    measured = mm.metrics.create().compute(accumulator, metrics=METRICS, name="x").loc["x"]
    expected = {name: round(float(measured[name]), 6) for name in METRICS}
    expected |= {
        "name_precision": round(right / faces_total, 6),
        "name_recall": round(boxes_named / boxes, 6),
        "age_error": round(sum(ages) / len(ages), 6) if ages else None,
        "gender": round(sum(genders) / len(genders), 6) if genders else None,
    }
    return expected


def main():
    folder = Path(sys.argv[1])
    packages = ("motmetrics", "numpy", "pandas", "scipy")
    expected = {"versions": {name: metadata.version(name) for name in packages}}
    for name, truth in (("mosaic", "mosaic.xml"), ("pan", "pan.txt")):
        for predicted in (True, False):
            key = name if predicted else f"{name} --no-predicted"
            expected[key] = evaluate(folder / f"{name}.jsonl", folder / truth, predicted)
    print(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main()
