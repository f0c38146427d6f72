//! Runs tests that measure a whole process in separate processes.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);

/// Set when a test runs [`alone`].
const ALONE: &str = "FACE_TESTS_ALONE";

/// Runs the ignored test `name` of the running binary in a separate process, which `prepare` may
/// change. Returns its output. Fails if the test fails or hangs.
pub fn child(name: &str, prepare: impl FnOnce(&mut Command)) -> String {
    run(name, |command| {
        command.arg("--ignored");
        prepare(command);
    })
}

/// Runs the calling test, whose body is `test`, in a separate process, one at a time: its results
/// depend on what else the process does.
pub fn alone<T: FnOnce()>(test: T) {
    static ONE: Mutex<()> = Mutex::new(());
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // `main::late::some_test::{{closure}}`. If the format changed, no test would run, and that
    // fails.
    let path = std::any::type_name::<T>();
    let path = path.trim_end_matches("::{{closure}}");
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    run(name, |command| {
        command.env(ALONE, "1");
    });
}

fn run(name: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([name, "--exact", "--nocapture"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let mut process = command.spawn().expect("starts");
    // Read while the child runs, so that no full pipe blocks it.
    let readers = [
        process.stdout.take().map(reader),
        process.stderr.take().map(reader),
    ];
    let start = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().expect("a child") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            process.kill().expect("a child");
            panic!("{name} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |thread: JoinHandle<Vec<u8>>| thread.join().expect("reads");
    let text: Vec<u8> = readers.into_iter().flatten().flat_map(read).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(status.success(), "{name}: {status}\n{text}");
    assert!(text.contains("1 passed"), "{name} did not run:\n{text}");
    text
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("readable");
        bytes
    })
}
