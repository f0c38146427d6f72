//! Elements that must not start: checks their errors, and that they recover.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use gst::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Running, TIMEOUT, root};

impl Running {
    /// Goes to NULL, which must be quick.
    pub fn stop(&self) {
        let (done, finished) = std::sync::mpsc::channel();
        let pipeline = self.0.clone();
        std::thread::spawn(move || done.send(pipeline.set_state(gst::State::Null)));
        finished
            .recv_timeout(Duration::from_secs(2))
            .expect("the pipeline stops within two seconds")
            .expect("the pipeline stops");
    }

    /// Plays to the end, or to the first error. Returns its text and the element that posted it.
    pub fn outcome(&self) -> Result<(), (String, String)> {
        let started = self.0.set_state(gst::State::Playing);
        let bus = self.0.bus().expect("a bus");
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        // A refused state change has already posted its reason.
        let patience = started.map_or(gst::ClockTime::SECOND, |_| TIMEOUT);
        let message = bus
            .timed_pop_filtered(patience, &kinds)
            .context("neither an end nor a reason")
            .expect("the pipeline neither hangs nor fails in silence");
        match message.view() {
            gst::MessageView::Error(error) => {
                let source = error.src().map(|s| s.name().to_string());
                Err((error.error().to_string(), source.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }
}

/// Checks that `element` with `properties` fails with its own error that contains all of `says`,
/// that it stops, and that it runs once the properties are those of `mended`.
pub fn refuses(element: &str, properties: &[(&str, &str)], says: &[&str], mended: &[(&str, &str)]) {
    let running = Running::new(&format!(
        "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=64,height=64 ! \
         {element} name=x ! fakesink"
    ))
    .expect("a valid pipeline");
    let set = |(name, value): &(&str, &str)| running.element("x").set_property(name, *value);
    properties.iter().for_each(set);
    let what = format!("{element} {properties:?}");
    // Twice, since the first failure must not hide the second.
    for _ in 0..2 {
        let (text, source) = running.outcome().expect_err(&what);
        println!("{what}\n    {text}");
        assert_eq!(source, "x", "{what}: {text}");
        assert!(!text.contains("anicked"), "{text}");
        for part in says {
            assert!(text.contains(part), "{what}: no {part:?} in: {text}");
        }
        running.stop();
    }
    mended.iter().for_each(set);
    assert_eq!(running.outcome(), Ok(()), "{what} mended");
    running.stop();
}

/// A folder of broken models.
pub struct Models(TempDir);

impl Default for Models {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

/// The descriptor of a real model, without its sha256.
pub fn descriptor(of: &str) -> Value {
    let path = root().join(format!("models/{of}.json"));
    let text = std::fs::read_to_string(path).expect("committed");
    let mut value: Value = serde_json::from_str(&text).expect("valid JSON");
    value["source"].take();
    value
}

pub fn weights(of: &str) -> PathBuf {
    let path = root().join(format!("models/{of}.onnx"));
    assert!(path.is_file(), "run `make setup`");
    path
}

impl Models {
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Writes `NAME.json` and links the weights of a real model next to it. Returns the path of the
    /// weights.
    pub fn linked(&self, name: &str, descriptor: &Value, weights_of: &str) -> String {
        let path = self.put(name, &descriptor.to_string());
        std::os::unix::fs::symlink(weights(weights_of), &path).expect("writable");
        path
    }

    /// The same with other bytes as weights.
    pub fn written(&self, name: &str, descriptor: &Value, bytes: &[u8]) -> String {
        let path = self.put(name, &descriptor.to_string());
        std::fs::write(&path, bytes).expect("writable");
        path
    }

    /// Writes `NAME.json`. Returns the path that its weights should have.
    pub fn put(&self, name: &str, descriptor: &str) -> String {
        let path = self.0.path().join(format!("{name}.onnx"));
        std::fs::write(path.with_extension("json"), descriptor).expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    }
}
