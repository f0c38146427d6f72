#!/usr/bin/env python3
"""HOTA and its parts as TrackEval computes them.

    hota.py FOLDER > FOLDER/hota.json     for `tests/evaluate.rs`
    hota.py RESULT TRUTH                  prints those of one result, with and without predicted boxes
"""

import json
import sys
from importlib import metadata
from pathlib import Path

import motmetrics as mm
import numpy as np
from trackeval.metrics import HOTA

from expected import read_cvat, read_mot


def measure(result, truth, predicted):
    labels, span, size = (read_cvat if truth.suffix == ".xml" else read_mot)(truth)
    gt, tracks, overlaps, seen = [], [], [], set()
    for line in map(json.loads, result.read_text().splitlines()):
        if line["type"] != "frame" or (span and line["frame"] not in span):
            continue
        seen.add(line["frame"])
        faces = [f for f in line["faces"] if predicted or not f.get("predicted")]
        here = labels.get(line["frame"], [])
        scale = [line["width"] / size[0], line["height"] / size[1]] * 2 if size else [1] * 4
        gt.append([label[0] for label in here])
        tracks.append([face["track"] for face in faces])
        table = [[mm.distances.boxiou(lb[2] * scale, np.array(f["box"])) for f in faces] for lb in here]
        overlaps.append(np.array(table, dtype=float).reshape(len(here), len(faces)))
    for frame in sorted(set(labels) - seen):
        if span is None or frame in span:
            gt.append([label[0] for label in labels[frame]])
            tracks.append([])
            overlaps.append(np.zeros((len(gt[-1]), 0)))

    def dense(lists):
        numbers = {key: i for i, key in enumerate(sorted({key for keys in lists for key in keys}))}
        return [np.array([numbers[key] for key in keys], dtype=int) for keys in lists], len(numbers)

    (gt_ids, num_gt), (tracker_ids, num_tracker) = dense(gt), dense(tracks)
    found = HOTA().eval_sequence(
        {
            "gt_ids": gt_ids,
            "tracker_ids": tracker_ids,
            "num_gt_ids": num_gt,
            "num_tracker_ids": num_tracker,
            "num_gt_dets": sum(map(len, gt)),
            "num_tracker_dets": sum(map(len, tracks)),
            "similarity_scores": overlaps,
        }
    )
    return {key: round(float(np.mean(found[key])), 6) for key in ("HOTA", "DetA", "AssA", "LocA")}


def main():
    expected = {}
    if len(sys.argv) == 3:
        result, truth = map(Path, sys.argv[1:])
        for predicted in (True, False):
            expected["all" if predicted else "--no-predicted"] = measure(result, truth, predicted)
    else:
        folder = Path(sys.argv[1])
        packages = ("trackeval", "motmetrics", "numpy", "scipy")
        expected["versions"] = {name: metadata.version(name) for name in packages}
        for name, truth in (("mosaic", "mosaic.xml"), ("pan", "pan.txt")):
            for predicted in (True, False):
                key = name if predicted else f"{name} --no-predicted"
                expected[key] = measure(folder / f"{name}.jsonl", folder / truth, predicted)
    print(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main()
