//! Many streams in one process: total frames per second, and the memory that each additional stream
//! takes beyond its decoder. Each count is measured in a separate process of this program.

use std::process::Command;
use std::time::{Duration, Instant};

use face_tests::{Running, media};
use gst::prelude::*;
use serde::{Deserialize, Serialize};

/// Numbers of streams, and the frames of each.
const COUNTS: [(usize, usize); 4] = [(1, 200), (4, 200), (16, 200), (64, 100)];
const CLIP: &str = "WolfgangLanger_Pexels.mp4";
const ROUNDS: usize = 3;

/// The stages after a detector.
const STAGES: &str = "queue max-size-buffers=3 ! facetracker ! facerecognizer attach-embedding=true ! faceagegender ! \
    facemetajson";

/// The stages of each stream when this many run. A single stream keeps both cores busy only with
/// several frames in flight.
fn stages(count: usize) -> String {
    let in_flight = if count == 1 { 4 } else { 1 };
    format!("facedetector frames-in-flight={in_flight} ! {STAGES}")
}

const TARGET_RATIO: f64 = 0.95;
const TARGET_MIB: f64 = 12.0;

#[derive(Serialize, Deserialize)]
struct Measured {
    fps: f64,
    /// The most memory seen while all streams ran.
    mib: f64,
}

/// Resident memory of this process.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.expect("VmRSS in kB") / 1024.0
}

/// Runs this many streams as one pipeline, with `stages` or only their decoders.
fn measure(count: usize, frames: usize, stages: &str) -> Measured {
    let stream = format!(
        "filesrc location=\"{}\" ! decodebin ! identity eos-after={} ! queue max-size-buffers=3 ! {stages} ! \
         fakesink sync=false async=false ",
        media(CLIP).display(),
        frames + 1
    );
    let pipeline = Running::new(&stream.repeat(count)).expect("a valid pipeline");
    let counters: Vec<_> = pipeline
        .0
        .children()
        .into_iter()
        .filter(|element| element.factory().is_some_and(|f| f.name() == "queue"))
        .filter_map(|element| {
            let source = element.static_pad("sink")?.peer()?.parent_element()?;
            (source.factory()?.name() == "identity").then(|| element.static_pad("src"))?
        })
        .map(|pad| {
            let frames = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counter = frames.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
            frames
        })
        .collect();
    assert_eq!(counters.len(), count);
    let frames = || -> Vec<usize> {
        let load = |c: &std::sync::Arc<std::sync::atomic::AtomicUsize>| {
            c.load(std::sync::atomic::Ordering::Relaxed)
        };
        counters.iter().map(load).collect()
    };
    pipeline.play().expect("it starts");
    let bus = pipeline.0.bus().expect("a pipeline has one");
    let (mut begin, mut mib) = (None, 0f64);
    let ended = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = loop {
        if let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(20), &ended) {
            break message;
        }
        let frames = frames();
        if begin.is_none() && frames.iter().any(|&n| n > 0) {
            begin = Some((Instant::now(), frames.iter().sum::<usize>()));
        }
        if frames.iter().all(|&n| n > 0) {
            mib = mib.max(resident_mib());
        }
    };
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{}", error.error());
    }
    let (begin, before) = begin.unwrap_or((Instant::now() - Duration::from_millis(1), 0));
    let total = frames().iter().sum::<usize>();
    Measured {
        fps: (total - before) as f64 / begin.elapsed().as_secs_f64(),
        mib,
    }
}

/// The same in a separate process.
fn apart(count: usize, frames: usize, stages: &str) -> Measured {
    let output = Command::new(std::env::current_exe().expect("a program"))
        .args(["measure", &count.to_string(), &frames.to_string(), stages])
        .output()
        .expect("this program runs");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    face_tests::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, count, frames, stages] = arguments.as_slice()
        && word == "measure"
    {
        let number = |text: &str| text.parse().expect("a number");
        let measured = measure(number(count), number(frames), stages);
        println!("{}", serde_json::to_string(&measured).expect("two numbers"));
        return;
    }
    println!("streams of 640x360, full line, medians of {ROUNDS} runs in turn");
    println!(
        "{:>8} {:>10} {:>8} {:>10} {:>12} {:>22}",
        "streams", "total fps", "of 1's", "MiB", "decode-only", "MiB a further stream"
    );
    let mut runs: Vec<Vec<(Measured, Measured)>> = COUNTS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (runs, &(count, frames)) in runs.iter_mut().zip(&COUNTS) {
            runs.push((
                apart(count, frames, &stages(count)),
                apart(count, frames, "identity"),
            ));
        }
    }
    let mut one = None;
    for (runs, (count, _)) in runs.iter().zip(COUNTS) {
        let fps = median(runs.iter().map(|(full, _)| full.fps));
        let full = median(runs.iter().map(|(full, _)| full.mib));
        let decode = median(runs.iter().map(|(_, decode)| decode.mib));
        let beyond = full - decode;
        let &mut (one_fps, one_beyond) = one.get_or_insert((fps, beyond));
        let further = match count {
            1 => "-".to_owned(),
            _ => format!("{:.1}", (beyond - one_beyond) / (count - 1) as f64),
        };
        println!(
            "{count:>8} {fps:>10.1} {:>8.2} {full:>10.0} {decode:>12.0} {further:>22}",
            fps / one_fps
        );
    }
    println!(
        "wanted: at 16 streams at least {TARGET_RATIO} of one stream's frames a second, at most \
         {TARGET_MIB} MiB a further stream"
    );
}
