//! Common needs of all video encoders.

use gst::prelude::*;

/// The minimum width and height that x264enc accepts, in pixels.
pub const LEAST_SIDE: u32 = 16;

/// Caps of the sizes that an H.264 encoder accepts: even, and within its limits.
pub const ENCODABLE: &str = "video/x-raw,width=[16,16384,2],height=[16,16384,2]";

/// Makes `crop` cut odd sizes to even ones, as H.264 requires.
pub fn crop_to_even(crop: &gst::Element, video: &gst_video::VideoInfo) {
    // Smaller ones are scaled, and a single pixel would be cut off.
    let odd = |side: u32| {
        if side > LEAST_SIDE {
            (side % 2) as i32
        } else {
            0
        }
    };
    crop.set_property("right", odd(video.width()));
    crop.set_property("bottom", odd(video.height()));
}

/// Tells an encoder 25 frames per second if the caps have no rate or an impossible one (24000/1 for
/// some H.264 streams over RTSP), with which x264enc produces grey pictures. The frames keep their
/// times.
pub fn assume_rate(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        let event = info.event().map(|event| event.view());
        if let Some(gst::EventView::Caps(event)) = event
            && frame_duration(event.caps()).is_none()
        {
            let mut caps = event.caps_owned();
            caps.make_mut().set("framerate", gst::Fraction::new(25, 1));
            info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether a frame can have this duration.
pub fn is_plausible(duration: gst::ClockTime) -> bool {
    duration >= gst::ClockTime::from_useconds(100)
}

/// The duration of a frame by its caps. `None` if the rate varies or cannot be true.
pub fn frame_duration(caps: &gst::CapsRef) -> Option<gst::ClockTime> {
    let rate: gst::Fraction = caps.structure(0)?.get("framerate").ok()?;
    let numer = u64::try_from(rate.numer()).ok().filter(|&n| n > 0)?;
    let denom = u64::try_from(rate.denom()).ok()?;
    gst::ClockTime::SECOND
        .mul_div_floor(denom, numer)
        .filter(|&duration| is_plausible(duration))
}
