#!/usr/bin/env python3
"""Videos and labels for the tests of `facepipe evaluate`.

    inputs.py --media DIR --yunet FILE --facepipe FILE -o DIR

Makes two videos, labels them with OpenCV's FaceDetectorYN (never with this project's detector),
spoils the labels in known places, and has facepipe analyse the videos. Written are
NAME.jsonl (the result, without what evaluate does not read) and the labels.

mosaic  three panes: a clip, a clip that is on and off, a portrait that jumps about. CVAT XML
        with sparse keyframes at half the size of the video; frames 10 to 229 only; ages and genders.
pan     a picture of six people that a window moves over, back and forth; MOTChallenge text.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np

FPS = 30


class Detector:
    def __init__(self, yunet):
        self.net = cv2.FaceDetectorYN.create(str(yunet), "", (640, 640), 0.8, 0.3, 5000)

    def boxes(self, picture):
        self.net.setInputSize((picture.shape[1], picture.shape[0]))
        faces = self.net.detect(picture)[1]
        return [] if faces is None else [[float(v) for v in f[:4]] for f in faces]


def frames(path, size, count):
    """`count` frames of a clip, which is repeated if it is shorter."""
    found = []
    capture = cv2.VideoCapture(str(path))
    while len(found) < count:
        ok, frame = capture.read()
        if not ok:
            break
        found.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    return [found[i % len(found)] for i in range(count)]


def write_video(path, pictures):
    h, w = pictures[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (w, h))
    for picture in pictures:
        video.write(picture)
    video.release()


def mosaic(media, detector, folder):
    """Three panes of 640x360: the pictures, and per person a box or None for each frame."""
    count, size = 240, (640, 360)
    walker = frames(media / "WolfgangLanger_Pexels.mp4", size, count)
    selfie = frames(media / "single_face.mp4", size, count)
    empty = frames(media / "no_face.mp4", size, count)
    portrait = cv2.imread(str(media / "0-f15-hao-ph.jpg"))
    portrait = cv2.resize(portrait, (360, 360), interpolation=cv2.INTER_AREA)
    pictures, boxes = [], {"walker": [], "selfie": [], "portrait": []}
    for i in range(count):
        # On for 50 frames, off for 35.
        second = selfie[i] if i % 85 < 50 else empty[i]
        third = np.zeros((360, 640, 3), np.uint8)
        x = [0, 270, 120, 280][i // 45 % 4]
        third[:, x : x + 360] = portrait
        pictures.append(np.hstack([walker[i], second, third]))
        for pane, (name, picture) in enumerate(
            [("walker", walker[i]), ("selfie", second), ("portrait", third)]
        ):
            found = detector.boxes(picture)
            box = found[0] if found else None
            boxes[name].append(box and [box[0] + 640 * pane, *box[1:]])
    people = folder / "people"
    for name, picture in [
        ("walker", walker[200]), ("selfie", selfie[30]), ("portrait", portrait),
    ]:
        # In the gallery, the portrait's name has another person's face, so it will be unknown.
        (people / name).mkdir(parents=True)
        if name == "portrait":
            picture = cv2.imread(str(media / "single_face.jpg"))
        cv2.imwrite(str(people / name / "1.png"), picture)
    return pictures, boxes


def mosaic_truth(boxes):
    """CVAT for video 1.1 at half the size, with a keyframe every four frames."""
    first, last, step = 10, 229, 4
    about = {"walker": (31, "male"), "selfie": (25, "female"), "portrait": (40, "female")}
    labels = {name: list(found) for name, found in boxes.items()}
    # Gaps: faces that nobody labelled.
    labels["walker"][100:120] = [None] * 20
    # A label where nobody is.
    labels["selfie"][60:70] = [[900.0, 20.0, 80.0, 90.0]] * 10
    # Labelled in the wrong place.
    labels["portrait"][150:162] = [
        b and [b[0] + 0.45 * b[2], *b[1:]] for b in labels["portrait"][150:162]
    ]
    # Swapped labels.
    for i in range(130, 145):
        a, b = labels["walker"][i], labels["portrait"][i]
        labels["walker"][i], labels["portrait"][i] = b, a
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>",
        "  <meta><task>", "    <name>mosaic</name><mode>interpolation</mode>",
        f"    <start_frame>{first}</start_frame><stop_frame>{last}</stop_frame>",
        "    <frame_filter></frame_filter>",
        "    <original_size><width>960</width><height>180</height></original_size>",
        "  </task></meta>",
    ]
    for number, (name, found) in enumerate(labels.items()):
        label = "face" if name == "selfie" else name
        lines.append(f'  <track id="{number}" label={quoteattr(label)} source="manual">')
        shown = None
        since = 0
        for i in range(first, last + 1):
            box = found[i]
            change = (box is None) != (shown is None)
            # Label both sides of a jump.
            near = [found[k] for k in (i - 1, i + 1) if first <= k <= last]
            jump = box is not None and any(
                b is None or math.dist(b[:2], box[:2]) > 15 for b in near
            )
            if box is None and not (change and shown is not None):
                shown = None
                continue
            if not (change or jump or since >= step or i == last):
                since += 1
                shown = box
                continue
            since = 1
            x, y, w, h = (box or shown)
            age, gender = about[name]
            lines.append(
                f'    <box frame="{i}" outside="{int(box is None)}" occluded="0" keyframe="1" '
                f'xtl="{x / 2:.2f}" ytl="{y / 2:.2f}" xbr="{(x + w) / 2:.2f}" '
                f'ybr="{(y + h) / 2:.2f}" z_order="0">'
                f'<attribute name="age">{age}</attribute>'
                f'<attribute name="gender">{gender}</attribute>'
                + (f'<attribute name="name">{name}</attribute>' if label == "face" else "")
                + "</box>"
            )
            shown = box
        lines.append("  </track>")
    lines.append("</annotations>")
    return "\n".join(lines) + "\n"


def pan(media, detector):
    """A window of 480x480 over a picture, and the boxes of each person at least half inside."""
    picture = cv2.imread(str(media / "t1.jpg"))
    height, width = picture.shape[:2]
    faces = sorted(detector.boxes(picture))
    side = min(480, height)
    pictures, boxes = [], []
    for i in range(260):
        x = round((width - side) * (0.5 - 0.5 * math.cos(i / 65 * math.pi)))
        y = round((height - side) * (0.5 - 0.5 * math.cos(i / 50 * math.pi)))
        pictures.append(picture[y : y + side, x : x + side].copy())
        here = []
        for person, (fx, fy, fw, fh) in enumerate(faces, 1):
            inside = max(0, min(fx + fw, x + side) - max(fx, x)) * max(
                0, min(fy + fh, y + side) - max(fy, y)
            )
            if inside >= 0.5 * fw * fh:
                here.append((person, fx - x, fy - y, fw, fh))
        boxes.append(here)
    return pictures, boxes


def pan_truth(boxes):
    lines = []
    for i, here in enumerate(boxes):
        for person, x, y, w, h in here:
            # A gap, a swap, a line that does not count.
            if person == 2 and 60 <= i < 90:
                continue
            if 150 <= i < 175 and person in (3, 4):
                person = 7 - person
            flag = 0 if person == 5 and i >= 230 else 1
            lines.append(f"{i + 1},{person},{x + 1:.1f},{y + 1:.1f},{w:.1f},{h:.1f},{flag},1,1\n")
    return "".join(lines)


def analyse(facepipe, pictures, output, gallery=None):
    with tempfile.TemporaryDirectory() as folder:
        video, lines = Path(folder) / "video.avi", Path(folder) / "faces.jsonl"
        write_video(video, pictures)
        command = [facepipe, "annotate", video, "--json", lines]
        subprocess.run(command + (["--gallery", gallery] if gallery else []), check=True)
        with output.open("w") as out:
            for line in map(json.loads, lines.read_text().splitlines()):
                for face in line.get("faces", []):
                    for key in ("landmarks", "confidence", "name_confidence", "distance",
                                "gender_confidence"):
                        face.pop(key, None)
                out.write(json.dumps(line, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--yunet", type=Path, required=True)
    parser.add_argument("--facepipe", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    detector = Detector(args.yunet)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pictures, boxes = mosaic(args.media, detector, folder)
        gallery = folder / "g.safetensors"
        subprocess.run([args.facepipe, "enroll", folder / "people", "-o", gallery], check=True)
        analyse(args.facepipe, pictures, args.output / "mosaic.jsonl", gallery)
        (args.output / "mosaic.xml").write_text(mosaic_truth(boxes))
    pictures, boxes = pan(args.media, detector)
    analyse(args.facepipe, pictures, args.output / "pan.jsonl")
    (args.output / "pan.txt").write_text(pan_truth(boxes))


if __name__ == "__main__":
    main()
