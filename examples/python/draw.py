"""Draws a green box around each face: draw.py VIDEO OUTPUT.mp4"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo

GREEN = bytes((0, 255, 0))
THICK = 3


def boxes(buffer):
    """The faces' boxes on this frame: x, y, width, height in pixels."""
    meta = buffer.get_custom_meta("GstFaceMeta")
    known = meta.get_structure() if meta else None
    for i in range(known.n_fields() if known else 0):
        field = known.nth_field_name(i)
        if not field.startswith("face-"):
            continue
        region = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, int(field[5:]))
        if region:
            x, y, w, h = known.get_value(field).get_value("box")
            yield region.x + x * region.w, region.y + y * region.h, w * region.w, h * region.h


def draw(pixels, size, stride, box):
    """Draws a box, as far as it is inside the picture, into packed RGB pixels."""
    width, height = size
    left, right = (min(max(int(v), 0), width) for v in (box[0], box[0] + box[2]))
    top, bottom = (min(max(int(v), 0), height) for v in (box[1], box[1] + box[3]))
    for row in range(top, bottom):
        edge = row < top + THICK or row >= bottom - THICK
        spans = [(left, right)] if edge else [(left, left + THICK), (right - THICK, right)]
        for start, end in spans:
            start, end = max(start, left), min(end, right)
            if start < end:
                at = row * stride + start * 3
                pixels[at:at + (end - start) * 3] = GREEN * (end - start)


Gst.init(None)
source = Gst.parse_launch(
    "filesrc name=file ! decodebin ! videoconvert ! videoflip video-direction=auto ! facedetector"
    " ! facetracker ! videoconvert ! video/x-raw,format=RGB"
    " ! appsink name=frames sync=false max-buffers=4")
source.get_by_name("file").set_property("location", sys.argv[1])
target = Gst.parse_launch(
    "appsrc name=frames format=time block=true max-bytes=20000000"
    " ! videoconvert ! x264enc ! mp4mux ! filesink name=file")
target.get_by_name("file").set_property("location", sys.argv[2])
frames, drawn = source.get_by_name("frames"), target.get_by_name("frames")
source.set_state(Gst.State.PLAYING)
target.set_state(Gst.State.PLAYING)


def end(message=None):
    """Ends the program, with the error that a message holds."""
    source.set_state(Gst.State.NULL)
    target.set_state(Gst.State.NULL)
    failed = message and message.type == Gst.MessageType.ERROR
    sys.exit(message.parse_error().gerror.message if failed else 0)


while not frames.get_property("eos"):
    sample = frames.emit("try-pull-sample", Gst.SECOND)
    for pipeline in (source, target):
        if error := pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR):
            end(error)
    if not sample:
        continue
    buffer, info = sample.get_buffer(), GstVideo.VideoInfo.new_from_caps(sample.get_caps())
    pixels = bytearray(buffer.extract_dup(0, buffer.get_size()))
    for box in boxes(buffer):
        draw(pixels, (info.width, info.height), info.stride[0], box)
    copy = Gst.Buffer.new_wrapped(bytes(pixels))
    copy.pts, copy.duration = buffer.pts, buffer.duration
    drawn.set_property("caps", sample.get_caps())
    drawn.emit("push-buffer", copy)
drawn.emit("end-of-stream")
end(target.get_bus().timed_pop_filtered(
    Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR))
