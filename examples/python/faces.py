"""Prints the faces of a video: faces.py VIDEO [GALLERY]"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo

Gst.init(None)
frames = 0


def on_frame(pad, info):
    global frames
    buffer = info.get_buffer()
    meta = buffer.get_custom_meta("GstFaceMeta")
    known = meta.get_structure() if meta else None
    for i in range(known.n_fields() if known else 0):
        field = known.nth_field_name(i)
        if not field.startswith("face-"):
            continue
        region = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, int(field[5:]))
        if not region:
            continue
        face = known.get_value(field)
        # The exact box, relative to the region's size.
        x, y, w, h = face.get_value("box")
        x, y = region.x + x * region.w, region.y + y * region.h
        w, h = w * region.w, h * region.h
        age = face.get_value("age")
        name = face.get_value("name") or "-"
        print(f"frame {frames} box {x:.1f} {y:.1f} {w:.1f} {h:.1f} "
              f"track {face.get_value('track')} age {age or 0:.1f} name {name}")
    frames += 1
    return Gst.PadProbeReturn.OK


pipeline = Gst.parse_launch(
    "filesrc name=file ! decodebin ! videoconvert ! videoflip video-direction=auto ! facedetector"
    " ! facetracker ! facerecognizer name=who ! faceagegender ! fakesink name=end")
pipeline.get_by_name("file").set_property("location", sys.argv[1])
if len(sys.argv) > 2:
    pipeline.get_by_name("who").set_property("gallery", sys.argv[2])
pipeline.get_by_name("end").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_frame)
pipeline.set_state(Gst.State.PLAYING)
message = pipeline.get_bus().timed_pop_filtered(
    Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR)
pipeline.set_state(Gst.State.NULL)
if message.type == Gst.MessageType.ERROR:
    error, details = message.parse_error()
    sys.exit(f"{error.message}\n{details}")
