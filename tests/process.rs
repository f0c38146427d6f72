//! Tests in processes of their own, for what is of a whole process.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);

/// Runs the ignored test `name` of the running binary in a process that `prepare` may change; its
/// output. Fails if the test does, or hangs.
pub fn child(name: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([name, "--exact", "--ignored", "--nocapture"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let mut process = command.spawn().expect("starts");
    // Read while the child runs, so that no full pipe holds it up.
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
