//! The element `facemetajson`: raw video with face metadata in, JSON Lines out
//! (`application/x-json`).
//!
//! Each frame becomes one line, in its own buffer, with the frame's timestamps:
//!
//! ```json
//! {"type":"frame","frame":12,"pts":480000000,"stream_time":480000000,"width":640,"height":360,"faces":[{"box":[10.5,20.0,80.0,96.5],"confidence":0.93,"track":3,"name":"penny","name_confidence":0.83,"distance":0.41,"age":27.4}]}
//! ```
//!
//! `box` and `landmarks` are in pixels of the frame. A key is absent if no stage wrote it.
//! `"predicted":true` follows `track` if the tracker predicted the box. When a track ends
//! (`face-track-ended`, a new stream, the end of the stream), a line gives the results for the
//! whole track:
//!
//! ```json
//! {"type":"track","track":3,"first_pts":0,"last_pts":480000000,"first_stream_time":0,"last_stream_time":480000000,"frames":12,"name":"penny","name_confidence":0.83}
//! ```
//!
//! `frames` and the times count the frames on which the face was detected, not predicted. A flush
//! discards the tracks. `stream_time` is what a player shows; `pts` is the buffer's own timestamp.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     facemetajson ! filesink location=faces.jsonl
//! ```

mod imp;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceMetaJson(ObjectSubclass<imp::FaceMetaJson>)
        @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "facemetajson",
        gst::Rank::NONE,
        FaceMetaJson::static_type(),
    )
}
