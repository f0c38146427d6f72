//! The faults that need no root and take seconds. `run.sh` tries all of them, and for longer.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use face_faults::load::{Cameras, Stretch};
use face_faults::report::Verdict;
use face_faults::scenarios::ALL;
use face_faults::scene::Trial;

#[track_caller]
fn holds(name: &str) {
    static TRIAL: OnceLock<Trial> = OnceLock::new();
    let trial = TRIAL.get_or_init(|| Trial::new(3, 1, true).expect("a gallery"));
    let fault = ALL.iter().find(|fault| fault.name == name);
    match fault.expect("a fault of that name").try_it(trial) {
        Verdict::Held(row) => println!("{row:?}"),
        Verdict::Skipped(_, reason) => println!("skipped: {reason}"),
        Verdict::Failed(_, error) => panic!("{error:#}"),
    }
}

#[test]
fn a_server_is_killed_and_started_again() {
    holds("server killed");
}

#[test]
fn a_camera_changes_its_resolution() {
    holds("resolution changes");
}

#[test]
fn a_camera_changes_its_codec() {
    holds("codec changes");
}

#[test]
fn timestamps_run_back() {
    holds("time runs back");
}

#[test]
fn packets_are_garbage() {
    holds("garbage");
}

#[test]
fn pipelines_that_fail_while_they_start_end_nothing_else() {
    let mut cameras = Cameras::start(12, 10, "").expect("they run");
    // Decoders are set up for data that is not video, and torn down halfway.
    for _ in 0..4 {
        cameras.garble(true).expect("a command");
        std::thread::sleep(Duration::from_secs(4));
        cameras.garble(false).expect("a command");
        cameras.wait_for_frames().expect("all are back");
    }
    cameras.end().expect("all is whole");
}

#[test]
fn a_gallery_becomes_junk() {
    holds("gallery is junk");
}

#[test]
fn everything_is_killed_while_it_writes() {
    holds("kill -9, outputs");
}

#[test]
fn viewers_come_and_go() {
    holds("viewers come and go");
}

#[test]
fn more_cameras_than_can_be_looked_at_share_what_there_is() {
    // Far more than two cores can process, but no more than they can decode.
    let cameras = Cameras::start(24, 15, "").expect("they run");
    let (begin, count) = (Instant::now(), cameras.names().len());
    let watch = || cameras.watch(Duration::from_secs(3)).expect("it answers");
    // The cameras that started last catch up.
    watch();
    let mut looked = vec![0.0; count];
    // On a busy machine it takes longer until there is enough to compare.
    while looked.iter().sum::<f64>() < 20.0 * count as f64 {
        assert!(begin.elapsed() < Duration::from_secs(180), "{looked:?}");
        for (sum, more) in looked.iter_mut().zip(&watch().looked) {
            *sum += more;
        }
    }
    let (least, most) = Stretch::spread(&looked);
    assert!(least > 0.3 && most < 3.0, "not even: {looked:?}");
    cameras.end().expect("all is whole");
}
