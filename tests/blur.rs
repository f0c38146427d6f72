//! facemetablur hides every face that OpenCV finds, in every format, and nothing else.

use face_core::geometry::Rect;
use face_core::meta::{self, Face, Recognition, Track};
use face_tests::feed::{Feed, add_region, at};
use face_tests::{Frame, Picture, Running, cosine, media, root, run_picture};
use gst::prelude::*;
use gst_video::prelude::*;
use serde_json::Value;

const MAGENTA: [u8; 3] = [255, 0, 255];
const FILL: &str = "facemetablur mode=fill color=0xffff00ff";

/// The frame's pixels as packed RGB.
fn pixels(frame: &Frame) -> Vec<[u8; 3]> {
    let caps = Picture::black(frame.width, frame.height).caps();
    let sample = gst_video::convert_sample(&frame.sample, &caps, Some(face_tests::TIMEOUT))
        .expect("videoconvert can");
    let info = gst_video::VideoInfo::from_caps(&caps).expect("video");
    let frame =
        gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().expect("one"), &info)
            .expect("maps");
    let stride = frame.plane_stride()[0] as usize;
    let rows = frame.plane_data(0).expect("a plane").chunks(stride);
    rows.flat_map(|row| row.as_chunks::<3>().0[..info.width() as usize].to_vec())
        .collect()
}

/// The share of a box, as far as it is inside of the frame, that has the colour of `FILL`.
fn hidden(pixels: &[[u8; 3]], (width, height): (u32, u32), rect: &Rect) -> f64 {
    let side = |v: f64, limit: u32| v.round().clamp(0.0, limit.into()) as usize;
    let columns = side(rect.x, width)..side(rect.right(), width);
    let rows = side(rect.y, height)..side(rect.bottom(), height);
    let area = (columns.len() * rows.len()).max(1);
    let row = |y: usize| &pixels[y * width as usize..][columns.clone()];
    let filled = rows.map(|y| row(y).iter().filter(|p| **p == MAGENTA).count());
    filled.sum::<usize>() as f64 / area as f64
}

/// A stream of the reference: how it is made, and the faces that OpenCV sees on each frame.
struct Reference {
    name: String,
    pipeline: String,
    frames: Vec<Vec<Rect>>,
}

fn references() -> Vec<Reference> {
    let path = root().join("tests/reference/visible.json");
    let text = std::fs::read_to_string(path).expect("committed");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let folder = media("t1.jpg");
    let folder = folder.parent().and_then(|f| f.to_str()).expect("UTF-8");
    let rect = |value: &Value| {
        let [x, y, w, h] = [0, 1, 2, 3].map(|i| value[i].as_f64().expect("a number"));
        Rect::new(x, y, w, h)
    };
    let rects = |value: &Value| value.as_array().expect("faces").iter().map(rect).collect();
    let streams = json["streams"].as_object().expect("streams");
    streams
        .iter()
        .map(|(name, stream)| Reference {
            name: name.clone(),
            pipeline: stream["pipeline"]
                .as_str()
                .expect("a pipeline")
                .replace("{media}", folder),
            frames: stream["frames"].as_array().expect("frames").iter().map(rects).collect(),
        })
        .collect()
}

/// How many of the reference's faces there are, and on how many less than 95 % is hidden.
fn exposed(reference: &Reference, stages: &str) -> (usize, usize) {
    let running = Running::new(&format!(
        "{} ! videoconvert ! video/x-raw,format=RGB ! {stages} ! appsink name=out sync=false \
         max-buffers=4",
        reference.pipeline
    ))
    .expect("a valid pipeline");
    running.play().expect("it starts");
    let (mut faces, mut visible) = (0, 0);
    let mut frames = reference.frames.iter();
    while let Some(frame) = running.next().expect("it runs to its end") {
        let expected = frames.next().expect("as many frames as in the reference");
        let pixels = pixels(&frame);
        for rect in expected {
            faces += 1;
            let share = hidden(&pixels, (frame.width, frame.height), rect);
            if share < 0.95 {
                visible += 1;
                if std::env::var_os("SHOW").is_some() {
                    println!("{}: {:?} {share:.2}", reference.name, frame.pts);
                }
            }
        }
    }
    assert_eq!(frames.count(), 0, "{}: frames are missing", reference.name);
    (faces, visible)
}

/// Exposed of all faces, over all streams.
fn exposure(stages: &str) -> (usize, usize) {
    references().iter().fold((0, 0), |sum, reference| {
        let (faces, visible) = exposed(reference, stages);
        println!("{stages}: {}: {visible} of {faces} visible", reference.name);
        (sum.0 + faces, sum.1 + visible)
    })
}

#[test]
#[ignore]
fn explore() {
    let list = std::env::var("STAGES").expect("STAGES");
    for stages in list.split(';') {
        let (faces, visible) = exposure(stages);
        println!("=> {stages}: {visible} of {faces}");
    }
}
