//! Galleries that cannot be used. At the start they are refused with file, cause and remedy. While
//! playing they are refused with a warning, and the stream goes on with the previous gallery.

use std::path::{Path, PathBuf};

use face_meta::Face;
use face_tests::Picture;
use face_tests::feed::{Feed, enroll};
use face_tests::refusal::{Models, descriptor, refuses, weights};
use serde_json::{Value, json};
use tempfile::TempDir;

const PEOPLE: [&str; 6] = ["ada", "ben", "cleo", "dan", "eve", "fay"];

/// A good gallery and broken copies of it.
struct Galleries {
    folder: TempDir,
    picture: Picture,
    good: Vec<u8>,
}

impl Galleries {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let picture = Picture::open("t1.jpg");
        let path = folder.path().join("good.safetensors");
        enroll(&path, &picture, &PEOPLE).expect("six faces");
        let good = std::fs::read(path).expect("just written");
        Self {
            folder,
            picture,
            good,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.safetensors"))
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("writable");
        self.text(name)
    }

    /// The good gallery with another header. (Safetensors begin with the header's length and its
    /// JSON.)
    fn edited(&self, name: &str, edit: impl FnOnce(&mut Value)) -> String {
        let (length, rest) = self.good.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        let mut header: Value = serde_json::from_slice(&rest[..length]).expect("JSON");
        edit(&mut header);
        let header = header.to_string().into_bytes();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(&rest[length..]);
        self.put(name, &bytes)
    }

    /// Every kind of broken gallery, with parts of its error.
    fn broken(&self) -> Vec<(String, &'static [&'static str])> {
        let metadata = |key: &'static str, value: Value| {
            move |header: &mut Value| header["__metadata__"][key] = value
        };
        let folder = self.text("folder");
        std::fs::create_dir(&folder).expect("writable");
        let short = &self.good[..self.good.len() - 100];
        vec![
            (self.text("missing"), &["does not exist", "facepipe enroll"]),
            (folder, &["cannot read", "directory"]),
            (
                self.put("empty", &[]),
                &["not a gallery", "facepipe enroll"],
            ),
            (
                self.put("junk", b"\xff\xd8 a photograph of a friend"),
                &["not a gallery", "facepipe enroll"],
            ),
            (
                self.put("truncated", short),
                &["not a gallery", "facepipe enroll"],
            ),
            (
                self.put("header", &self.good[..40]),
                &["not a gallery", "facepipe enroll"],
            ),
            (
                self.edited("rows", metadata("rows", json!("[{\"person\": "))),
                &["not a gallery", "facepipe enroll"],
            ),
            (
                self.edited("fewer", metadata("rows", json!("[]"))),
                &["not a gallery", "expected F32 [0, D]"],
            ),
            (
                self.edited("format", metadata("format", json!("pt"))),
                &["not a gallery", "format"],
            ),
            (
                self.edited("version", metadata("version", json!("2"))),
                &["version 2", "reads version 1", "facepipe enroll"],
            ),
            (
                self.edited("bare", |h| {
                    drop(h.as_object_mut().map(|o| o.remove("__metadata__")))
                }),
                &["not a gallery", "no `format`"],
            ),
            (
                self.edited("other", |h| {
                    h["__metadata__"]["model"] = json!("arcface");
                    h["__metadata__"]["model-sha256"] = json!("cd".repeat(32));
                }),
                &[
                    "`arcface`",
                    "cdcdcdcdcdcd",
                    "`sface`",
                    "0ba9fbfa01b5",
                    "enroll again",
                ],
            ),
            (
                self.edited("dimensions", |h| {
                    h["embeddings"]["shape"] = json!([12, 64]);
                    let row = json!({"person": "x", "source": "y"});
                    h["__metadata__"]["rows"] = json!(Value::from(vec![row; 12]).to_string());
                }),
                &["64 dimensions", "128", "enroll"],
            ),
        ]
    }
}

fn names(faces: &[Face]) -> Vec<String> {
    let mut faces: Vec<&Face> = faces.iter().collect();
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    let name = |face: &&Face| face.recognition.clone().map_or("?".into(), |r| r.name);
    faces.iter().map(name).collect()
}

#[test]
fn refused_at_the_start() {
    let galleries = Galleries::new();
    let good = galleries.text("good");
    for (path, says) in galleries.broken() {
        let says = [&[path.as_str()], says].concat();
        refuses(
            "facerecognizer",
            &[("gallery", &path)],
            &says,
            &[("gallery", &good)],
        );
    }
}

#[test]
fn refused_while_playing() {
    let galleries = Galleries::new();
    let good = galleries.text("good");
    let feed = Feed::new(
        &format!(
            "facedetector ! facetracker ! facerecognizer name=r gallery=\"{good}\" interval=0"
        ),
        &galleries.picture.caps(),
    )
    .expect("starts");
    let mut index = 0;
    let mut show = || {
        index += 1;
        let frame = feed
            .show(&galleries.picture, index)
            .expect("the stream goes on");
        let warnings: Vec<String> = feed
            .messages(gst::MessageType::Warning)
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
                _ => None,
            })
            .collect();
        (names(&frame.faces), warnings)
    };
    assert_eq!(show(), (PEOPLE.map(String::from).to_vec(), vec![]));
    for (path, says) in galleries.broken() {
        feed.set("r", "gallery", &path);
        let (named, warnings) = show();
        assert_eq!(named, PEOPLE, "the current gallery stays in use");
        let [warning] = warnings.as_slice() else {
            panic!("one warning for {path}, not {warnings:?}");
        };
        println!("{warning}");
        for part in [&[path.as_str(), "the current gallery stays in use"], says].concat() {
            assert!(warning.contains(part), "no {part:?} in: {warning}");
        }
        assert_eq!(
            show(),
            (PEOPLE.map(String::from).to_vec(), vec![]),
            "warned once"
        );
    }
    let others = ["u", "v", "w", "x", "y", "z"];
    enroll(&galleries.path("others"), &galleries.picture, &others).expect("six faces");
    feed.set("r", "gallery", &galleries.text("others"));
    assert_eq!(show(), (others.map(String::from).to_vec(), vec![]));
    // Setting the same path reads the file again.
    enroll(&galleries.path("others"), &galleries.picture, &PEOPLE).expect("six faces");
    feed.set("r", "gallery", &galleries.text("others"));
    assert_eq!(show(), (PEOPLE.map(String::from).to_vec(), vec![]));
}

/// The gallery's file may be deleted: it was read at the start.
#[test]
fn a_gallery_that_disappears() {
    let galleries = Galleries::new();
    let feed = Feed::new(
        &format!(
            "facedetector ! facerecognizer gallery=\"{}\"",
            galleries.text("good")
        ),
        &galleries.picture.caps(),
    )
    .expect("starts");
    std::fs::remove_file(galleries.path("good")).expect("removable");
    let frame = feed.show(&galleries.picture, 0).expect("passes");
    assert_eq!(names(&frame.faces), PEOPLE);
}

/// A gallery without people is still a gallery.
#[test]
fn an_empty_gallery_names_nobody() {
    let galleries = Galleries::new();
    let empty = galleries.edited("nobody", |h| {
        h["embeddings"]["shape"] = json!([0, 128]);
        h["embeddings"]["data_offsets"] = json!([0, 0]);
        h["__metadata__"]["rows"] = json!("[]");
    });
    let bytes = std::fs::read(&empty).expect("just written");
    galleries.put("nobody", &bytes[..bytes.len() - 6 * 128 * 4]);
    let elements = format!("facedetector ! facerecognizer gallery=\"{empty}\"");
    let frame = face_tests::run_picture(&galleries.picture, &elements).expect("runs");
    assert_eq!(names(&frame.faces), ["Unknown"; 6]);
}

/// A file of weights linked next to two descriptors makes two models.
#[test]
fn two_descriptors_of_one_file() {
    let models = Models::default();
    let path = |name: &str| -> PathBuf { Path::new(models.folder()).join(name) };
    let strict = json!(0.0001);
    let mut changed = descriptor("sface");
    changed["distance_threshold"] = strict;
    changed["strangers"] = json!(null);
    let loose = models.linked("loose", &descriptor("sface"), "sface");
    let strict = models.linked("strict", &changed, "sface");
    assert_eq!(
        path("loose.onnx").canonicalize().ok(),
        weights("sface").canonicalize().ok()
    );
    let galleries = Galleries::new();
    let picture = galleries.picture.resized(640, 443);
    let run = |model: &str| {
        let elements = format!(
            "facedetector ! facerecognizer model=\"{model}\" gallery=\"{}\"",
            galleries.text("good")
        );
        let feed = Feed::new(&elements, &picture.caps()).expect("starts");
        let frame = feed.show(&picture, 0).expect("passes");
        (feed, names(&frame.faces))
    };
    let (_stays, named) = run(&loose);
    assert_eq!(named, PEOPLE);
    assert_eq!(run(&strict).1, ["Unknown"; 6], "its own threshold counts");
    assert_eq!(run(&loose).1, PEOPLE);
}
