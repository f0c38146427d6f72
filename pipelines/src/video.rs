//! What every encoder of pictures needs.

use gst::prelude::*;

/// Has `crop` cut odd sizes to even ones, as H.264 needs them.
pub fn crop_to_even(crop: &gst::Element, video: &gst_video::VideoInfo) {
    crop.set_property("right", (video.width() % 2) as i32);
    crop.set_property("bottom", (video.height() % 2) as i32);
}

/// Tells an encoder of 25 frames a second where the caps have no rate, or one that no camera has
/// (24000/1 by some H.264 streams behind RTSP), with which x264enc makes grey pictures. The times of
/// the frames stay.
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

/// The duration of a frame by its caps; `None` where the rate varies or cannot be true.
pub fn frame_duration(caps: &gst::CapsRef) -> Option<gst::ClockTime> {
    let rate: gst::Fraction = caps.structure(0)?.get("framerate").ok()?;
    let numer = u64::try_from(rate.numer()).ok().filter(|&n| n > 0)?;
    let denom = u64::try_from(rate.denom()).ok()?;
    gst::ClockTime::SECOND
        .mul_div_floor(denom, numer)
        .filter(|&duration| is_plausible(duration))
}
