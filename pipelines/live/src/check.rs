//! `facepipe live --check`: everything that can be checked without reaching a camera.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;

use super::config::place::{Places, Problems};
use super::config::{Camera, Config};
use super::strangers::{Strangers, keeper};
use super::{control, outputs};
use face_parts::graph;
use face_parts::output::Target;
use face_parts::stages::{self, Options};

/// The longest path of a Unix socket, in bytes. The kernel's limit includes one more for the
/// terminator.
const LONGEST_SOCKET: usize = 107;

/// The usual ways to reach cameras, for error texts.
const USUAL: [&str; 8] = [
    "rtsp", "rtsps", "http", "https", "file", "v4l2", "srt", "rtmp",
];

/// Fails with all problems that would keep the configuration from working.
pub fn check(config: &Config, places: &Places) -> Result<(), Problems> {
    let mut problems = Problems::default();
    if let Err(error) = check_state(config) {
        problems
            .list
            .push(places.problem("state", format!("state: {error:#}")));
    }
    for (key, address) in addresses(config) {
        if let Err(error) = check_port(config, address) {
            let key = format!("{key}.listen");
            problems
                .list
                .push(places.problem(&key, format!("{key}: {address}: {error:#}")));
        }
    }
    if let Some(path) = config.strangers.remember.as_deref() {
        let limits = keeper::limits(&config.strangers);
        let checked = check_file(path).and_then(|()| Strangers::read(path, limits).map(drop));
        if let Err(error) = checked {
            let key = "strangers.remember";
            problems
                .list
                .push(places.problem(key, format!("{key}: {error:#}")));
        }
    }
    let mut loaded = Loaded::default();
    for (i, camera) in config.cameras.iter().enumerate() {
        let mut note = |key: &str, error: anyhow::Error| {
            // An address may be secret.
            let cause = face_parts::address::redact(&format!("{error:#}"));
            let message = format!("camera `{}`: {key}: {cause}", camera.name);
            problems.list.push(places.camera_problem(i, key, message));
        };
        if let Err(error) = check_uri(&camera.uri) {
            note("uri", error);
        }
        if let Err((key, error)) = loaded.check(&camera.stages) {
            note(&key, anyhow!(error));
        }
        for (key, path) in files(camera) {
            if let Err(error) = check_file(path) {
                note(key, error);
            }
        }
        if let Some(segments) = &camera.segments
            && let Err(error) = check_folder(&segments.folder)
        {
            note("segments.folder", error);
        }
        if let Err((key, error)) = outputs::check_elements(camera) {
            note(key, error);
        }
    }
    problems.into_result()
}

/// The addresses to listen at, with their tables.
fn addresses(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let mut addresses = Vec::new();
    if !config.server.disabled {
        addresses.push(("server", config.server.listen));
    }
    if config.cameras.iter().any(|camera| camera.restream) {
        addresses.push(("restream", config.restream.listen));
    }
    addresses
}

/// Fails unless the program can listen at `address`, or already does so with this configuration.
fn check_port(config: &Config, address: SocketAddr) -> Result<()> {
    let runs = || {
        let socket = config.state_folder().map(|state| control::path(&state));
        socket.is_ok_and(|socket| UnixStream::connect(socket).is_ok())
    };
    match TcpListener::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs() => Ok(()),
        bound => Ok(bound.map(drop)?),
    }
}

/// Checks that the folder for state is writable and can hold a socket.
fn check_state(config: &Config) -> Result<()> {
    let state = config.state_folder()?;
    let socket = control::path(&state);
    let length = socket.as_os_str().len();
    ensure!(
        length <= LONGEST_SOCKET,
        "{} has {length} bytes, but a socket's path may have only {LONGEST_SOCKET}; choose a shorter \
         folder",
        socket.display()
    );
    check_folder(&state)?;
    if config.cameras.iter().any(|camera| camera.restream) {
        outputs::check_password(config)?;
    }
    Ok(())
}

/// The files that a camera writes, with their keys.
fn files(camera: &Camera) -> Vec<(&'static str, &Path)> {
    let jsonl = camera.jsonl.as_ref().map(|j| ("jsonl.path", &*j.path));
    let events = camera.events.as_ref().and_then(|e| e.path.as_deref());
    let events = events.map(|path| ("events.path", path));
    jsonl.into_iter().chain(events).collect()
}

/// Fails unless a file at `path` can be written.
fn check_file(path: &Path) -> Result<()> {
    ensure!(
        !path.is_dir(),
        "{} is a folder; name a file",
        path.display()
    );
    // Nothing is created next to a pipe or a device, and opening a pipe without a reader would block.
    if let Ok(Target::Descriptor(_) | Target::Stream(_)) = Target::of(path) {
        return Ok(());
    }
    if path.exists() {
        let opened = std::fs::OpenOptions::new().append(true).open(path);
        opened.with_context(|| format!("{} cannot be written", path.display()))?;
    }
    // Full files are renamed and new ones created.
    check_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Fails unless `folder` is writable or can be created.
fn check_folder(folder: &Path) -> Result<()> {
    let existing = folder.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    ensure!(existing.is_dir(), "{} is not a folder", existing.display());
    // Permissions do not tell everything: the file system may be read-only or full.
    let trial = existing.join(format!(".facepipe-check-{}", std::process::id()));
    std::fs::create_dir(&trial)
        .and_then(|()| std::fs::remove_dir(&trial))
        .with_context(|| match existing == folder {
            true => format!("the folder {} is not writable", folder.display()),
            false => format!("the folder {} cannot be created", folder.display()),
        })
}

/// Fails unless GStreamer has a source for the address, which need not be reachable.
fn check_uri(uri: &str) -> Result<()> {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    let sources =
        gst::ElementFactory::factories_with_type(gst::ElementFactoryType::SRC, gst::Rank::NONE);
    let has = |scheme: &str| {
        sources
            .iter()
            .any(|source| source.uri_protocols().iter().any(|p| p == scheme))
    };
    if !has(&scheme.to_ascii_lowercase()) {
        let known: Vec<&str> = USUAL.into_iter().filter(|known| has(known)).collect();
        bail!(
            "GStreamer has no source for `{scheme}:`; it has {}, and more",
            known.join(", ")
        );
    }
    gst::Element::make_from_uri(gst::URIType::Src, uri, None)
        .map_err(|error| anyhow!("not an address for `{scheme}:`: {}", error.message()))?;
    if let Ok((path, _)) = glib::filename_from_uri(uri) {
        ensure!(path.is_file(), "{} does not exist", path.display());
    }
    Ok(())
}

/// An error with its key.
type LoadResult = Result<(), (String, String)>;

/// The stages of the cameras. Each combination is loaded once and kept, so that no model is loaded
/// twice.
#[derive(Default)]
struct Loaded {
    seen: Vec<(Options, LoadResult)>,
    running: Vec<graph::Running>,
}

impl Loaded {
    /// Loads the models and the gallery.
    fn check(&mut self, stages: &Options) -> LoadResult {
        if let Some((_, before)) = self.seen.iter().find(|(known, _)| known == stages) {
            return before.clone();
        }
        let result = self
            .load(stages)
            .map_err(|(key, error)| (key.to_owned(), format!("{error:#}")));
        self.seen.push((stages.clone(), result.clone()));
        result
    }

    fn load(&mut self, wanted: &Options) -> Result<(), (&'static str, anyhow::Error)> {
        if let Some(path) = &wanted.gallery {
            face_gallery::Gallery::read(path).map_err(|e| ("gallery", e.into()))?;
        }
        let pipeline = graph::Running::new();
        let build = || {
            let end = graph::free_sink("fakesink")?;
            let extras = stages::Extras {
                embeddings: true,
                live: true,
                ..Default::default()
            };
            stages::build_with(&pipeline, wanted, extras, &end)
        };
        build().map_err(|error| ("stages", error))?;
        let started = pipeline.set_state(gst::State::Paused);
        let result = match started {
            Ok(_) => Ok(()),
            Err(_) => Err(failure(&pipeline)),
        };
        self.running.push(pipeline);
        result
    }
}

/// Why stages did not start, and the key responsible.
fn failure(pipeline: &gst::Pipeline) -> (&'static str, anyhow::Error) {
    let message = pipeline
        .bus()
        .and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    let Some(gst::MessageView::Error(error)) = message.as_ref().map(|message| message.view())
    else {
        return (
            "stages",
            anyhow!("the stages do not start and give no reason"),
        );
    };
    let element = error
        .src()
        .and_then(|src| src.downcast_ref::<gst::Element>())
        .and_then(|element| element.factory());
    let text = graph::explain(error);
    // ONNX Runtime, or a part of it, cannot be loaded.
    let key = match error.error().matches(gst::LibraryError::Init) {
        true => "stages.execution-provider",
        false => match element.as_ref().map(|factory| factory.name()).as_deref() {
            Some("facedetector") => "stages.detector",
            Some("facerecognizer") if text.to_string().contains("gallery") => "gallery",
            Some("facerecognizer") => "stages.model",
            Some("faceagegender") => "stages.age-gender-model",
            Some("faceexpression") => "stages.expression",
            _ => "stages",
        },
    };
    (key, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_devices_are_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        // Opening it would wait for a reader.
        for path in [&pipe, Path::new("/dev/stdout"), Path::new("/dev/full")] {
            check_file(path).expect("can be written");
        }
        check_file(&folder.path().join("new/lines")).expect("can be created");
        assert!(check_file(folder.path()).is_err());
    }
}
