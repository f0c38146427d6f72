//! The whole cost of `facedetector` per frame (map, sample, infer, decode, suppress, attach)
//! compared with the bare session's run time at the same input size, on one thread, interleaved in
//! one process. The session runs the published model, except that its input size is variable.

use face_benches::{median, time};
use face_core::model::Model;
use face_core::session::{self, Options, Runner};
use face_tests::run_file;

const ROUNDS: usize = 120;
const CLIP: &str = "WolfgangLanger_Pexels.mp4";

fn main() {
    face_tests::init();
    let model = Model::find("yunet").expect("set up");
    let session = session::load(&model, &Options::default()).expect("loadable");
    println!("facedetector against the bare session, medians of {ROUNDS} frames, 1 thread");
    println!(
        "{:>12} {:>6} {:>12} {:>12} {:>7}",
        "frame", "format", "bare ms", "element ms", "ratio"
    );
    for (width, height) in [(640, 360), (1920, 1080), (3840, 2160)] {
        for format in ["I420", "NV12"] {
            let caps = format!("video/x-raw,format={format},width={width},height={height}");
            let elements = format!(
                "videorate ! video/x-raw,framerate=1/2 ! videoconvert ! videoscale ! {caps}"
            );
            let frames = run_file(CLIP, &elements).expect("the clip plays");
            // The harness claims to be live, but does not say when its frames are due.
            let mut harness = gst_check::Harness::new_parse("facedetector late=wait");
            harness.set_src_caps(frames[0].sample.caps_owned().expect("caps"));
            let mut runner = Runner::new(&session, [1, 3, 384, 640]).expect("runs");
            let (mut bare, mut element) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                let buffer = frames[round % frames.len()]
                    .sample
                    .buffer_owned()
                    .expect("a buffer");
                bare.push(time(|| runner.run().expect("runs")));
                element.push(time(|| {
                    harness.push(buffer).expect("flows");
                }));
                let out = harness.pull().expect("a frame");
                assert!(!face_meta::read(&out).is_empty(), "no face found");
            }
            let (bare, element) = (median(&mut bare), median(&mut element));
            println!(
                "{:>12} {format:>6} {bare:>12.2} {element:>12.2} {:>7.3}",
                format!("{width}x{height}"),
                element / bare
            );
        }
    }
}
