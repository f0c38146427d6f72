//! A live RTSP stream at three times the rate at which one thread can detect, for as many minutes
//! as the first argument says (1). Measures how far the latency rises above that of the start, and
//! how much work is skipped.

use std::time::{Duration, Instant};

use face_tests::enroll;
use face_tests::overload::{Camera, Line, detector};

const CLIP: &str = "WolfgangLanger_Pexels.mp4";
const OVERLOAD: u32 = 3;

fn main() {
    let minutes = std::env::args().skip(1).find_map(|a| a.parse::<f64>().ok());
    let minutes = minutes.unwrap_or(1.0);
    let stages_late = std::env::var("LATE").unwrap_or("auto".into());
    let folder = tempfile::tempdir().expect("a folder");
    let gallery = folder.path().join("people.safetensors");
    enroll(&gallery);
    let camera = Camera::new(CLIP, OVERLOAD).expect("it serves");
    let stages = format!(
        "{} name=d late={stages_late} ! facetracker name=t ! \
         facerecognizer name=r gallery=\"{}\" late={stages_late} ! faceagegender name=a late={stages_late}",
        detector(),
        gallery.display()
    );
    println!(
        "{:.1} frames a second of {CLIP}, {minutes} minutes, all stages late={stages_late}, {}",
        1.0 / camera.frame.as_secs_f64(),
        detector()
    );
    let line = Line::new(&camera, &stages).expect("it plays");
    let begin = Instant::now();
    let length = Duration::from_secs_f64(60.0 * minutes);
    let mut next = Duration::from_secs(10);
    while begin.elapsed() < length {
        std::thread::sleep(Duration::from_millis(100));
        line.running.check().expect("no error");
        if begin.elapsed() >= next {
            next += Duration::from_secs(10);
            let seconds = begin.elapsed().as_secs();
            line.look(|outcome| {
                let lags = outcome.passed.iter().rev().take(240).map(|p| p.lag);
                let most = lags.max().unwrap_or_default() - outcome.start();
                eprintln!(
                    "{seconds:>5} s: at most {:.0} ms above the start",
                    most as f64 / 1e6
                );
            });
        }
    }
    let detected = line.stat("d", "inferences");
    let spent = line.stat("d", "time-total") as f64 / detected.max(1) as f64;
    let dropped = ["d", "r", "a"].map(|e| line.stat(e, "work-dropped"));
    let embedded = line.stat("r", "inferences");
    let tracks = line.stat("t", "tracks-total");
    let outcome = line.stop();
    let above = outcome.above();
    let at = |share: f64| above[((above.len() - 1) as f64 * share) as usize];
    println!(
        "overload {:.1}: {:.0} ms a detection, {:.1} ms a frame",
        spent / camera.frame.as_nanos() as f64,
        spent / 1e6,
        camera.frame.as_secs_f64() * 1e3
    );
    println!(
        "latency: start {:.1} ms (with what the clocks are apart), above it: median {:.0}, 99 % {:.0}, most {:.0} ms",
        outcome.start() as f64 / 1e6,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!(
        "frames: {} in, {} out, {} lost or out of order, longest gap {:.1} frames",
        outcome.came.len(),
        outcome.passed.len(),
        outcome.lost(),
        outcome.longest_gap(camera.frame)
    );
    let with_face = outcome.passed.iter().filter(|p| p.faces > 0).count();
    println!(
        "detected on {} frames, faces on {with_face}, embedded {embedded}; skipped: {} detections, {} embeddings, \
         {} estimates",
        outcome.examined(),
        dropped[0],
        dropped[1],
        dropped[2]
    );
    let since = outcome.since_examined();
    println!(
        "longest time without a detection: {:.0} ms of the stream",
        since.iter().max().copied().unwrap_or_default() as f64 / 1e6
    );
    println!(
        "{tracks} tracks in {:.1} rounds of the clip; names {:?}",
        outcome.came.len() as f64 / 472.0,
        outcome.names
    );
}
