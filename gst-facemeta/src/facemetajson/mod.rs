//! The element `facemetajson`: raw video with face metadata in, JSON Lines out
//! (`application/x-json`).
//!
//! Each frame becomes one line, a buffer of its own, with the frame's time stamps:
//!
//! ```json
//! {"type":"frame","frame":12,"pts":480000000,"width":640,"height":360,"faces":[{"box":[10.5,20.0,80.0,96.5],"confidence":0.93,"track":3,"name":"penny","name_confidence":0.83,"distance":0.41,"age":27.4}]}
//! ```
//!
//! `box` and `landmarks` are pixels of the frame; a key is absent where no stage wrote it;
//! `"predicted":true` stands behind `track` where the tracker predicted the box. When a track ends
//! (`face-track-ended`, a new stream, the end of the stream), a line says what is known of all of
//! it:
//!
//! ```json
//! {"type":"track","track":3,"first_pts":0,"last_pts":480000000,"frames":12,"name":"penny","name_confidence":0.83}
//! ```
//!
//! `frames`, `first_pts` and `last_pts` are about the frames on which the face was detected, not
//! predicted. A flush discards the tracks.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     facemetajson ! filesink location=faces.jsonl
//! ```

mod imp;
mod line;
mod summary;

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
