//! Tests `facepicturedecoder` in pipelines that are fed by hand.

use std::time::{Duration, Instant};

use gst::prelude::*;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage};

fn init() {
    static INIT: std::sync::Once = std::sync::Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstfacemeta::plugin_register_static().expect("the plugin registers");
    });
}

fn picture(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_pixel(width, height, Rgb([90, 120, 30])).into()
}

fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}

fn gif(frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for _ in 0..frames {
        let frame = Frame::from_parts(
            picture(40, 30).into_rgba8(),
            0,
            0,
            image::Delay::from_numer_denom_ms(200, 1),
        );
        encoder.encode_frame(frame).expect("writable");
    }
    drop(encoder);
    bytes
}

/// What came out, and the messages of warnings and of the error.
struct Seen {
    frames: Vec<gst::Sample>,
    warnings: Vec<String>,
    error: Option<String>,
}

/// Pushes `buffers` in this format into the element, and collects the rest.
fn decode(format: gst::Format, buffers: Vec<gst::Buffer>, properties: &str) -> Seen {
    init();
    let line =
        format!("appsrc name=in ! facepicturedecoder {properties} ! appsink name=out sync=false");
    let pipeline = gst::parse::launch(&line).expect("valid");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    let source = pipeline.by_name("in").and_downcast::<gst_app::AppSrc>();
    let source = source.expect("it is there");
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>();
    let sink = sink.expect("it is there");
    source.set_format(format);
    pipeline.set_state(gst::State::Playing).expect("starts");
    for buffer in buffers {
        // Refused after an error.
        let _ = source.push_buffer(buffer);
    }
    let _ = source.end_of_stream();
    let bus = pipeline.bus().expect("a pipeline has one");
    let mut seen = Seen {
        frames: Vec::new(),
        warnings: Vec::new(),
        error: None,
    };
    let start = Instant::now();
    loop {
        // The end is posted only once all frames were taken.
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::ZERO) {
            seen.frames.push(sample);
        }
        let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(20)) else {
            assert!(start.elapsed() < Duration::from_secs(120), "it ends");
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Warning(warning) => {
                seen.warnings.push(warning.error().message().to_owned());
            }
            gst::MessageView::Error(error) => {
                seen.error = Some(error.error().message().to_owned());
                break;
            }
            _ => {}
        }
    }
    while let Some(sample) = sink.try_pull_sample(gst::ClockTime::ZERO) {
        seen.frames.push(sample);
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    seen
}

fn bytes(bytes: &[u8]) -> Vec<gst::Buffer> {
    // As `filesrc` sends them, in parts.
    let parts = bytes
        .chunks(700)
        .map(|part| gst::Buffer::from_slice(part.to_vec()));
    parts.collect()
}

#[test]
fn a_stream_of_bytes_is_one_picture() {
    let png = file(&picture(41, 30), ImageFormat::Png);
    let seen = decode(gst::Format::Bytes, bytes(&png), "");
    assert_eq!(
        (seen.error, seen.warnings.len(), seen.frames.len()),
        (None, 0, 1)
    );
    let caps = seen.frames[0].caps().expect("with caps");
    let info = gst_video::VideoInfo::from_caps(caps).expect("raw video");
    assert_eq!((info.width(), info.height()), (41, 30));
    assert_eq!(info.fps(), gst::Fraction::new(0, 1));
    let buffer = seen.frames[0].buffer_owned().expect("a frame");
    assert_eq!(buffer.pts(), Some(gst::ClockTime::ZERO));
    let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info).expect("it fits");
    assert_eq!(frame.plane_data(0).expect("one plane")[..3], [90, 120, 30]);
}

#[test]
fn an_animation_is_shown_once_if_asked_for() {
    let gif = gif(3);
    let seen = decode(gst::Format::Bytes, bytes(&gif), "animation=true");
    let times: Vec<_> = seen
        .frames
        .iter()
        .filter_map(|f| f.buffer()?.pts())
        .collect();
    assert_eq!(times, [0, 200, 400].map(gst::ClockTime::from_mseconds));
    let first = decode(gst::Format::Bytes, bytes(&gif), "");
    assert_eq!(first.frames.len(), 1);
    assert_eq!(first.warnings, ["it moves; the first frame is used"]);
}

#[test]
fn in_a_stream_with_times_each_buffer_is_a_picture() {
    let buffer = |width, seconds| {
        let mut buffer = gst::Buffer::from_slice(file(&picture(width, 20), ImageFormat::Jpeg));
        let writable = buffer.get_mut().expect("a new buffer is writable");
        writable.set_pts(gst::ClockTime::from_seconds(seconds));
        buffer
    };
    let buffers = vec![buffer(32, 0), buffer(32, 1), buffer(64, 2)];
    let seen = decode(gst::Format::Time, buffers, "");
    assert_eq!(seen.error, None);
    let widths = seen.frames.iter().map(|frame| {
        let caps = frame.caps().expect("with caps");
        caps.structure(0).and_then(|s| s.get::<i32>("width").ok())
    });
    assert_eq!(widths.collect::<Vec<_>>(), [Some(32), Some(32), Some(64)]);
    let times: Vec<_> = seen
        .frames
        .iter()
        .filter_map(|f| f.buffer()?.pts())
        .collect();
    assert_eq!(times, [0, 1, 2].map(gst::ClockTime::from_seconds));
}

#[test]
fn numbered_files_are_as_many_pictures() {
    init();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (number, width) in [24, 32, 48].into_iter().enumerate() {
        let path = folder.path().join(format!("{number}.png"));
        std::fs::write(path, file(&picture(width, 20), ImageFormat::Png)).expect("writable");
    }
    let line = format!(
        "multifilesrc location=\"{}/%d.png\" caps=image/png,framerate=1/1 ! facepicturedecoder \
         ! appsink name=out sync=false",
        folder.path().display()
    );
    let pipeline = gst::parse::launch(&line).expect("valid");
    let bin = pipeline.downcast_ref::<gst::Bin>().expect("a pipeline");
    let sink = bin.by_name("out").and_downcast::<gst_app::AppSink>();
    let sink = sink.expect("it is there");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let width = |sample: gst::Sample| {
        let structure = sample.caps()?.structure(0)?;
        structure.get::<i32>("width").ok()
    };
    let widths = std::iter::from_fn(|| sink.pull_sample().ok()).filter_map(width);
    assert_eq!(widths.collect::<Vec<_>>(), [24, 32, 48]);
    pipeline.set_state(gst::State::Null).expect("stops");
}

#[test]
fn a_picture_that_nothing_takes_is_an_error() {
    init();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.png");
    std::fs::write(&path, file(&picture(40, 30), ImageFormat::Png)).expect("writable");
    let line = format!(
        "filesrc location=\"{}\" ! facepicturedecoder ! video/x-raw,width=10 ! fakesink",
        path.display()
    );
    let pipeline = gst::parse::launch(&line).expect("valid");
    // May fail at once.
    let _ = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().expect("a pipeline has one");
    let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &kinds);
    let message = message.expect("an error");
    let gst::MessageView::Error(error) = message.view() else {
        panic!("it ended without a word");
    };
    let text = error.error().to_string();
    assert!(text.contains("does not take the picture"), "{text}");
    pipeline.set_state(gst::State::Null).expect("stops");
}

#[test]
fn what_is_no_whole_picture_is_an_error_that_says_so() {
    let jpeg = file(&picture(64, 48), ImageFormat::Jpeg);
    for (what, expected) in [
        (&jpeg[..jpeg.len() * 6 / 10], "the JPEG is cut short"),
        (b"", "the file is empty"),
        (b"<html>404</html>", "it is a web page, not a picture"),
    ] {
        let seen = decode(gst::Format::Bytes, bytes(what), "");
        assert_eq!(seen.frames.len(), 0, "{expected}");
        let error = seen.error.expect(expected);
        assert!(error.starts_with(expected), "{error}");
    }
}
