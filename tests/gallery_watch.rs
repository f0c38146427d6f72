//! Galleries whose files change while the stream plays. They are adopted whole or not at all, and
//! no frame is lost. The test prints how soon: within a second on an idle machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use face_gallery::{Gallery, Row};
use face_meta::Face;
use face_tests::feed::{Feed, enroll};
use face_tests::{Picture, Running, TIMEOUT, media, run_file};
use gst::prelude::*;
use tempfile::TempDir;

const CLIP: &str = "WolfgangLanger_Pexels.mp4";

/// On an idle machine, every change is noticed within this time.
const SOON: Duration = Duration::from_secs(1);

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The only face of a frame: when it arrived, its track and its name.
#[derive(Clone)]
struct OnScreen {
    arrived: Instant,
    pts: u64,
    track: u64,
    name: String,
}

/// The clip in real time, with its results.
struct Live {
    running: Running,
    seen: Arc<Mutex<Vec<OnScreen>>>,
    announced: Vec<u64>,
}

impl Live {
    fn start(gallery: &Path) -> Self {
        let running = Running::new(&format!(
            "filesrc location=\"{}\" ! decodebin ! facedetector inference-size=320 ! facetracker ! \
             facerecognizer name=r gallery=\"{}\" ! appsink name=out sync=true",
            media(CLIP).display(),
            gallery.display()
        ))
        .expect("parses");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&seen);
        let collect = move |sink: &gst_app::AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
            let face = face_meta::read(buffer).into_iter().next();
            let seen = OnScreen {
                arrived: Instant::now(),
                pts: buffer.pts().map_or(0, gst::ClockTime::nseconds),
                track: face.as_ref().and_then(|f| f.track).map_or(0, |t| t.id),
                name: face
                    .and_then(|f| f.recognition)
                    .map_or("?".into(), |r| r.name),
            };
            collected.lock().expect("no panic").push(seen);
            Ok(gst::FlowSuccess::Ok)
        };
        let callbacks = gst_app::AppSinkCallbacks::builder();
        running
            .sink()
            .set_callbacks(callbacks.new_sample(collect).build());
        running.play().expect("plays");
        Self {
            running,
            seen,
            announced: Vec::new(),
        }
    }

    fn seen(&self) -> Vec<OnScreen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// How long after `since` the face first had the name `name`.
    fn named(&self, name: &str, since: Instant) -> Duration {
        loop {
            let seen = self.seen();
            if let Some(first) = seen.iter().find(|s| s.arrived >= since && s.name == name) {
                return first.arrived - since;
            }
            let last = seen.last().map(|s| s.name.clone());
            assert!(since.elapsed() < PATIENCE, "{last:?} is not called {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The warnings on the bus, and the row counts of the galleries announced before them.
    fn messages(&mut self) -> Vec<String> {
        let bus = self.running.0.bus().expect("a pipeline has one");
        let kinds = [gst::MessageType::Warning, gst::MessageType::Element];
        let messages: Vec<_> = std::iter::from_fn(|| bus.pop_filtered(&kinds)).collect();
        let structures = messages.iter().filter_map(|m| m.structure());
        let changed = structures.filter(|s| s.name() == "face-gallery-changed");
        self.announced
            .extend(changed.map(|s| s.get::<u64>("rows").expect("uint64")));
        warnings(&messages)
    }

    /// [`messages`](Self::messages), once there are some.
    fn warned(&mut self) -> Vec<String> {
        let since = Instant::now();
        loop {
            let warnings = self.messages();
            if !warnings.is_empty() {
                return warnings;
            }
            assert!(since.elapsed() < PATIENCE, "no warning");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stats(&self, field: &str) -> u64 {
        let stats: gst::Structure = self.running.element("r").property("stats");
        stats.get(field).expect("uint64")
    }
}

fn warnings(messages: &[gst::Message]) -> Vec<String> {
    let text = |message: &gst::Message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
        _ => None,
    };
    messages.iter().filter_map(text).collect()
}

/// Galleries of the clip's only person under several names.
struct Names {
    folder: TempDir,
    rows: Vec<Vec<f32>>,
    model: Gallery,
}

impl Names {
    fn new() -> Self {
        let elements =
            "facedetector inference-size=320 ! facerecognizer attach-embedding=true interval=0";
        let frames = run_file(CLIP, elements).expect("the clip plays");
        let rows = frames.iter().skip(10).step_by(60).filter_map(|frame| {
            let embedding = frame.faces.first()?.embedding.as_ref()?;
            Some(embedding.values.clone())
        });
        let rows = rows.collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let picture = Picture::open("t1.jpg");
        let others = folder.path().join("others");
        let model = enroll(&others, &picture, &["a", "b", "c", "d", "e", "f"]).expect("six faces");
        Self {
            folder,
            rows,
            model,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a gallery in which the person has the name `name`.
    fn write(&self, name: &str) -> PathBuf {
        let mut gallery = Gallery::new(self.model.model.clone(), self.model.dimensions());
        for row in &self.rows {
            let person = name.to_owned();
            let source = String::new();
            assert!(gallery.push(Row { person, source }, row));
        }
        let path = self.path(&format!("{name}.safetensors"));
        gallery.write(&path).expect("writable");
        path
    }
}

#[test]
fn a_changed_gallery_is_taken_over() {
    let names = Names::new();
    let [ann, bob, eve, dan] = ["ann", "bob", "eve", "dan"].map(|name| names.write(name));
    let path = names.path("used.safetensors");
    fs::copy(&ann, &path).expect("writable");
    let rows = names.rows.len() as u64;
    let start = Instant::now();
    let mut live = Live::start(&path);
    println!("named at the start after {:?}", live.named("ann", start));

    // Another file replaces it, as careful writers do it.
    let change = Instant::now();
    fs::rename(&bob, &path).expect("renamed");
    let after = live.named("bob", change);
    println!("renamed: {after:?}");

    // Junk, and half of a gallery: the old gallery stays, with one warning each.
    for junk in [
        b"junk".to_vec(),
        fs::read(&ann).expect("readable")[..500].to_vec(),
    ] {
        let change = Instant::now();
        fs::write(&path, junk).expect("writable");
        let warnings = live.warned();
        let seen = live.seen();
        let mut since = seen.iter().filter(|s| s.arrived >= change);
        assert!(since.all(|s| s.name == "bob"));
        let [warning] = warnings.as_slice() else {
            panic!("one warning, not {warnings:?}");
        };
        for part in [
            "used.safetensors",
            "not a gallery",
            "facepipe enroll",
            "stays",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
    }

    // Overwritten in place.
    let change = Instant::now();
    fs::copy(&eve, &path).expect("writable");
    let after = live.named("eve", change);
    println!("copied over: {after:?}");
    assert_eq!(live.messages(), [""; 0], "no other warning");

    // Deleted, and restored.
    fs::remove_file(&path).expect("removable");
    let warnings = live.warned();
    assert!(
        matches!(&warnings[..], [one] if one.contains("does not exist")),
        "{warnings:?}"
    );
    assert_eq!(
        live.seen().last().map(|s| s.name.clone()),
        Some("eve".into())
    );
    let change = Instant::now();
    fs::rename(&dan, &path).expect("renamed");
    let after = live.named("dan", change);
    println!("back again: {after:?}");

    // A new timestamp on the same content is not a change.
    let file = fs::File::options()
        .write(true)
        .open(&path)
        .expect("writable");
    file.set_modified(std::time::SystemTime::now())
        .expect("may be set");
    std::thread::sleep(SOON);
    assert_eq!(live.messages(), [""; 0]);
    assert_eq!(live.announced, [rows; 3]);
    assert_eq!(live.stats("gallery-loads"), 4);
    assert_eq!(
        (live.stats("gallery-rows"), live.stats("gallery-people")),
        (rows, 1)
    );

    // Without watching it is not adopted; with watching again, it is adopted at once.
    let recognizer = live.running.element("r");
    recognizer.set_property("watch", false);
    names.write("ann");
    fs::rename(names.path("ann.safetensors"), &path).expect("renamed");
    std::thread::sleep(SOON);
    assert_eq!(
        live.seen().last().map(|s| s.name.clone()),
        Some("dan".into())
    );
    recognizer.set_property("watch", true);
    live.named("ann", Instant::now());

    // Every frame of the clip arrived, on a single track.
    let bus = live.running.0.bus().expect("a pipeline has one");
    bus.timed_pop_filtered(TIMEOUT, &[gst::MessageType::Eos])
        .expect("the end of the clip");
    let seen = live.seen();
    let all = run_file(CLIP, "identity").expect("the clip plays");
    let times: Vec<Option<u64>> = seen.iter().map(|s| Some(s.pts)).collect();
    assert_eq!(times, all.iter().map(|f| f.pts).collect::<Vec<_>>());
    assert!(seen.iter().all(|s| s.track == seen[0].track));
}

/// Names of the faces from left to right.
fn left_to_right(faces: &[Face]) -> Vec<String> {
    let mut faces: Vec<&Face> = faces.iter().collect();
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    let name = |face: &&Face| face.recognition.clone().map_or("?".into(), |r| r.name);
    faces.iter().map(name).collect()
}

/// SplitMix64, for numbers that are the same in every run.
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z >> 40) as f32) / (1u64 << 23) as f32 - 1.0
}

/// The file of a large gallery, most of which stays on disk, may be truncated and overwritten while
/// it is searched.
#[test]
fn a_large_gallery_cut_short_in_place() {
    const PEOPLE: [&str; 6] = ["ada", "ben", "cleo", "dan", "eve", "fay"];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = Picture::open("t1.jpg");
    let path = folder.path().join("large.safetensors");
    let mut large = enroll(&path, &picture, &PEOPLE).expect("six faces");
    let mut state = 1;
    while large.len() < 70_000 {
        let stranger: Vec<f32> = (0..128).map(|_| random(&mut state)).collect();
        let row = Row {
            person: "stranger".into(),
            source: String::new(),
        };
        assert!(large.push(row, &stranger));
    }
    large.write(&path).expect("writable");
    drop(large);
    let size = fs::metadata(&path).expect("just written").len();
    assert!(size > 48 << 20, "{size}: 32 and 16 bits a number");
    let feed = Feed::new(
        &format!(
            "facedetector ! facerecognizer name=r gallery=\"{}\" interval=0",
            path.display()
        ),
        &picture.caps(),
    )
    .expect("starts");
    let mut index = 0;
    let mut show = || {
        index += 1;
        left_to_right(&feed.show(&picture, index).expect("passes").faces)
    };
    assert_eq!(show(), PEOPLE);
    let file = fs::File::options().write(true).open(&path);
    let file = file.expect("writable");
    for length in [size - 1000, size / 2, 1000, 0, size] {
        file.set_len(length).expect("cut");
        assert_eq!(show(), PEOPLE, "{length} of {size}");
    }
    let start = Instant::now();
    let (mut warned, mut since) = (Vec::new(), None);
    // Then for as long again as noticing a change takes.
    while since.is_none_or(|since: Instant| since.elapsed() < SOON) {
        assert_eq!(show(), PEOPLE);
        warned.extend(warnings(&feed.messages(gst::MessageType::Warning)));
        if !warned.is_empty() {
            since.get_or_insert_with(Instant::now);
        }
        assert!(start.elapsed() < PATIENCE, "no warning");
    }
    // On a busy machine, the watch may see several of the states that the file was in.
    assert!(
        warned.iter().all(|text| text.contains("not a gallery")),
        "{warned:?}"
    );
}

/// The watching thread ends with the last gallery.
#[test]
fn the_watching_thread_ends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = Picture::open("t1.jpg");
    let path = folder.path().join("g.safetensors");
    enroll(&path, &picture, &["a", "b", "c", "d", "e", "f"]).expect("six faces");
    let (output, expected) = (
        face_tests::process::child("gallery_watch::watching_threads", |command| {
            command.env("FACE_TEST_GALLERY", &path);
        }),
        "threads: 1 0 1 0",
    );
    assert!(output.contains(expected), "{output}");
}

#[test]
#[ignore = "run by the_watching_thread_ends in a separate process"]
fn watching_threads() {
    let path = std::env::var("FACE_TEST_GALLERY").expect("set by the test");
    let threads = || {
        let tasks = fs::read_dir("/proc/self/task").expect("Linux");
        let names = tasks
            .flatten()
            .map(|t| fs::read_to_string(t.path().join("comm")));
        names
            .flatten()
            .filter(|name| name.trim() == "face-galleries")
            .count()
    };
    let mut counts = Vec::new();
    for _ in 0..2 {
        let elements =
            format!("facerecognizer gallery=\"{path}\" ! facerecognizer gallery=\"{path}\"");
        let feed = Feed::bare(&elements).expect("starts");
        counts.push(threads());
        drop(feed);
        let start = Instant::now();
        while threads() > 0 && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        counts.push(threads());
    }
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    println!("threads: {}", counts.join(" "));
}
