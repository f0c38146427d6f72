//! The branches after the stages, which write files.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use gst::prelude::*;
use parking_lot::Mutex;

use crate::graph::{chain, check_muxer, make, make_first, output_sink, pad, set};
use crate::output::Output;
use crate::stages::picture_queue;
use crate::video::{LEAST_SIDE, assume_rate, crop_to_even, frame_duration, is_plausible};

/// The branch that writes JSON lines.
pub fn build_json(pipeline: &gst::Pipeline, tee: &gst::Element, output: &Output) -> Result<()> {
    let queue = picture_queue()?;
    let json = make("facemetajson")?;
    let sink = output_sink(output)?;
    chain(pipeline, &[&queue, &json, &sink])?;
    tee.link(&queue)?;
    Ok(())
}

/// The muxer for a file name.
pub fn muxer(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => Some("mp4mux"),
        "mkv" => Some("matroskamux"),
        _ => None,
    }
}

/// The branch that draws, encodes and writes the video. Returns the muxer.
pub fn build_video(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    path: Option<&Path>,
    output: &Output,
) -> Result<gst::Element> {
    let queue = picture_queue()?;
    let overlay = make("facemetaoverlay")?;
    let convert = make("videoconvert")?;
    // The only format that every player decodes.
    let format = make("capsfilter")?;
    set(&format, "caps", "video/x-raw,format=I420")?;
    let crop = make("videocrop")?;
    let scale = make("videoscale")?;
    let size = make("capsfilter")?;
    keep_size(&crop, &size)?;
    fill_durations(&pad(&crop, "sink")?);
    let mux = make(path.and_then(muxer).unwrap_or("mp4mux"))?;
    let mut elements = vec![
        queue.clone(),
        overlay,
        convert,
        format,
        crop,
        scale,
        size,
        picture_queue()?,
    ];
    let encoder = video_encoder()?;
    if let Some(encoder) = encoder.first() {
        assume_rate(&pad(encoder, "sink")?);
    }
    elements.extend(encoder);
    let sink = output_sink(output)?;
    elements.extend([coded_queue()?, mux.clone(), sink.clone()]);
    chain(pipeline, &elements.iter().collect::<Vec<_>>())?;
    check_muxer(&sink, output)?;
    tee.link(&queue)?;
    Ok(mux)
}

/// Cuts odd sizes to even ones, as H.264 requires, and keeps the size of the first frame, as a file
/// can have only one. This uses the first frame and not the first caps, because those of a rotated
/// video change before it.
fn keep_size(crop: &gst::Element, filter: &gst::Element) -> Result<()> {
    let fixed = AtomicBool::new(false);
    let (cropper, filter) = (crop.downgrade(), filter.downgrade());
    let mask = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    pad(crop, "sink")?.add_probe(mask, move |_, info| {
        if info.buffer().is_some() {
            fixed.store(true, Ordering::Relaxed);
        } else if let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view())
            && let Ok(video) = gst_video::VideoInfo::from_caps(caps.caps())
            && let (Some(crop), Some(filter)) = (cropper.upgrade(), filter.upgrade())
        {
            crop_to_even(&crop, &video);
            if !fixed.load(Ordering::Relaxed) {
                filter.set_property("caps", even_size(&video));
            }
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Sets the duration of frames that the decoder left without one. Otherwise a muxer would end the
/// file at the start of the last frame, and players would skip that frame. The nanosecond that
/// `h264parse` reports for a varying rate does not count.
fn fill_durations(pad: &gst::Pad) {
    let previous = Mutex::new(None);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let mut previous = previous.lock();
        if !buffer.duration().is_some_and(is_plausible) {
            let since = buffer
                .pts()
                .zip(*previous)
                .and_then(|(pts, before)| pts.checked_sub(before));
            let duration = pad
                .current_caps()
                .and_then(|caps| frame_duration(&caps))
                .or(since)
                .filter(|&duration| is_plausible(duration))
                .unwrap_or(gst::ClockTime::from_mseconds(40));
            buffer.make_mut().set_duration(duration);
        }
        *previous = buffer.pts();
        gst::PadProbeReturn::Ok
    });
}

/// Caps with the size of `video`, made even and large enough for an encoder.
fn even_size(video: &gst_video::VideoInfo) -> gst::Caps {
    let side = |pixels: u32| (pixels & !1).max(LEAST_SIDE) as i32;
    let (width, height) = (side(video.width()), side(video.height()));
    let caps = gst::Caps::builder("video/x-raw")
        .field("width", width)
        .field("height", height);
    let is_kept = video.width().min(video.height()) >= LEAST_SIDE;
    // Some AVI files have a negative one.
    let par = video.par();
    match is_kept && par.numer() > 0 && par.denom() > 0 {
        true => caps.field("pixel-aspect-ratio", par).build(),
        false => caps.build(),
    }
}

/// An H.264 encoder for good quality at high speed, and the parser that it needs before a muxer.
fn video_encoder() -> Result<Vec<gst::Element>> {
    let encoder = make_first(&["x264enc", "openh264enc"])?;
    if encoder.find_property("speed-preset").is_none() {
        set(&encoder, "rate-control", "quality")?;
        set(&encoder, "bitrate", 6_000_000)?;
        set(&encoder, "complexity", "low")?;
        let parse = make("h264parse")?;
        fill_durations(&pad(&parse, "src")?);
        return Ok(vec![encoder, parse]);
    }
    set(&encoder, "speed-preset", "veryfast")?;
    set(&encoder, "pass", "qual")?;
    set(&encoder, "quantizer", 22)?;
    set(&encoder, "key-int-max", 100)?;
    // No parser: it would give all frames a wrong duration if the rate varies.
    Ok(vec![encoder])
}

/// A queue for encoded data. It holds many small frames, as a muxer waits for the slower stream.
fn coded_queue() -> Result<gst::Element> {
    let queue = make("queue")?;
    set(&queue, "max-size-buffers", 0)?;
    set(&queue, "max-size-bytes", 64 << 20)?;
    set(&queue, "max-size-time", 0)?;
    Ok(queue)
}

/// The branch that encodes the sound. Returns its input pad.
pub fn build_audio(pipeline: &gst::Pipeline, mux: &gst::Element) -> Result<gst::Pad> {
    let queue = make("queue")?;
    let convert = make("audioconvert")?;
    let resample = make("audioresample")?;
    let encoder = make_first(&["avenc_aac", "fdkaacenc", "voaacenc"])?;
    let parse = make("aacparse")?;
    let last = coded_queue()?;
    let elements = [&queue, &convert, &resample, &encoder, &parse, &last];
    chain(pipeline, &elements)?;
    last.link(mux)?;
    for element in elements.into_iter().rev() {
        element.sync_state_with_parent()?;
    }
    pad(&queue, "sink")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_chooses_the_container() {
        assert_eq!(muxer(Path::new("a/b.MP4")), Some("mp4mux"));
        assert_eq!(muxer(Path::new("b.mkv")), Some("matroskamux"));
        assert_eq!(muxer(Path::new("b.avi")), None);
    }
}
