//! The faults that need no root and take seconds; `run.sh` tries all, and for longer.

use std::sync::OnceLock;

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
