//! `facepipe cluster` and `facepipe enroll --from-clusters` as their users run them, on real photos and
//! videos.

mod measured;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{RgbImage, imageops};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::common::{assert_code, enroll, facepipe, media, names, people, run, stderr, stdout};

fn analyze(inputs: &[PathBuf], results: &Path) -> Command {
    let mut command = facepipe();
    command.arg("analyze").args(inputs).arg("-o").arg(results);
    command.args(["--no-age-gender", "--interval", "3"]);
    command
}

fn cluster(results: &Path) -> Command {
    let mut command = facepipe();
    command.arg("cluster").arg(results);
    command
}

fn name_strangers(results: &Path, names: &[&str], gallery: &Path) -> Command {
    let mut command = facepipe();
    command.arg("enroll").arg("--from-clusters").arg(results);
    command.args(names).arg("-o").arg(gallery);
    command
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// A track: its folder and its number.
type Key = (String, u64);

/// The tracks of each cluster, in order.
fn clusters(results: &Path) -> Vec<Vec<Key>> {
    let key = |track: &Value| {
        let folder = track["folder"].as_str().expect("a folder").to_owned();
        (folder, track["track"].as_u64().expect("a number"))
    };
    json(&results.join("clusters.json"))["clusters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| {
            c["tracks"]
                .as_array()
                .expect("a list")
                .iter()
                .map(key)
                .collect()
        })
        .collect()
}

/// The folders of a cluster's tracks.
fn folders(cluster: &[Key]) -> Vec<&str> {
    cluster.iter().map(|(folder, _)| folder.as_str()).collect()
}

/// The names of an input's tracks.
fn named(results: &Path, input: &str) -> Vec<String> {
    json(&results.join(input).join("summary.json"))["tracks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| t["name"].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[test]
fn a_stranger_is_found_named_and_known_from_then_on() {
    let folder = people(&[("Hao", "0-f15-hao-ph.jpg")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let gallery = folder.path().join("g.safetensors");
    let results = folder.path().join("out");
    // One man in two clips and in a photo; five people; and one known person.
    let inputs = [
        "single_face.mp4",
        "face_noface.mov",
        "single_face.jpg",
        "multi_face.jpg",
        "0-f15-hao-ph.jpg",
    ]
    .map(media);
    let analyze = || {
        let mut command = analyze(&inputs, &results);
        assert_code(&run(command.arg("--gallery").arg(&gallery)), 0);
    };
    analyze();
    assert_eq!(named(&results, "0-f15-hao-ph"), ["Hao"]);

    let output = run(&mut cluster(&results));
    assert_code(&output, 0);
    assert!(
        stdout(&output).contains("6 strangers"),
        "{}",
        stdout(&output)
    );
    let found = clusters(&results);
    assert_eq!(
        folders(&found[0]),
        ["face_noface", "single_face", "single_face-2"]
    );
    for other in &found[1..] {
        assert_eq!(folders(other), ["multi_face"]);
    }
    // The same person in all summaries.
    for input in ["face_noface", "single_face", "single_face-2"] {
        let summary = json(&results.join(input).join("summary.json"));
        assert_eq!(summary["tracks"][0]["person"], "stranger-1", "{input}");
        assert_eq!(summary["strangers"][0]["name"], "stranger-1", "{input}");
        assert_eq!(summary["shared_strangers"], 6, "{input}");
    }
    let sheets: Vec<String> = (1..=6).map(|n| format!("stranger-{n}.png")).collect();
    assert_eq!(names(&results.join("clusters")), sheets);
    let sheet = image::open(results.join("clusters/stranger-1.png")).expect("a picture");
    let sheet = sheet.into_rgb8();
    // The middle of the first picture shows skin, not the page.
    let skin = sheet.get_pixel(12 + 80, 44 + 80).0;
    assert!(skin[0] > skin[2] && skin[0] > 90, "{skin:?}");

    // The same again, complete.
    let written = || fs::read(results.join("clusters.json")).expect("written");
    let first = written();
    fs::write(results.join("clusters/stranger-99.png"), "of another run").expect("writable");
    let output = run(cluster(&results).arg("--json"));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    assert_eq!(report["clusters"].as_array().map(Vec::len), Some(6));
    assert_eq!(
        (&report["tracks"], &report["model"]),
        (&8.into(), &"sface".into())
    );
    assert_eq!(written(), first);
    assert_eq!(names(&results.join("clusters")), sheets);

    // Added to the existing gallery.
    let output = run(&mut name_strangers(
        &results,
        &["stranger-1=Anna"],
        &gallery,
    ));
    assert_code(&output, 0);
    let mut list = facepipe();
    let list = stdout(&run(list.arg("gallery").arg("list").arg(&gallery)));
    assert!(
        list.contains("Hao: 1 image") && list.contains("Anna: 3 images"),
        "{list}"
    );
    assert!(list.contains("single_face-2 track 1"), "{list}");
    let before = fs::read(&gallery).expect("written");
    let output = run(&mut name_strangers(
        &results,
        &["stranger-1=Anna"],
        &gallery,
    ));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("nothing to add"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read(&gallery).expect("still there"), before);

    analyze();
    for input in ["face_noface", "single_face", "single_face-2"] {
        assert_eq!(named(&results, input), ["Anna"], "{input}");
    }
    assert_eq!(named(&results, "multi_face"), ["Unknown"; 5]);
    assert_eq!(named(&results, "0-f15-hao-ph"), ["Hao"]);

    // The tracks are the same, so the earlier strangers can still be named, here two as one person.
    let people = folder.path().join("new.safetensors");
    let pairs = ["stranger-3=Ben B.", "stranger-2=Ben B.", "stranger-1=Anna"];
    assert_code(&run(&mut name_strangers(&results, &pairs, &people)), 0);
    let mut info = facepipe();
    let info = run(info.args(["gallery", "info", "--json"]).arg(&people));
    let info: Value = serde_json::from_str(&stdout(&info)).expect("JSON");
    assert_eq!((&info["people"], &info["rows"]), (&2.into(), &5.into()));

    // Tracks that have names now are no strangers, unless all tracks are requested.
    assert_code(&run(&mut cluster(&results)), 0);
    assert_eq!(clusters(&results).len(), 5);
    assert_code(&run(cluster(&results).arg("--all")), 0);
    let all = clusters(&results);
    assert_eq!((all.len(), all[0].len()), (7, 3));
}

#[test]
fn who_is_seen_together_is_not_one_person_and_short_tracks_stay_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // One face twice in a picture: only the simultaneous presence tells them apart.
    let photo = image::open(media("single_face.jpg"))
        .expect("a photo")
        .into_rgb8();
    let mut twins = RgbImage::new(2 * photo.width(), photo.height());
    imageops::replace(&mut twins, &photo, 0, 0);
    imageops::replace(&mut twins, &photo, photo.width().into(), 0);
    let path = folder.path().join("twins.png");
    twins.save(&path).expect("writable");
    let results = folder.path().join("out");
    let inputs = [path, media("single_face.mp4")];
    assert_code(&run(&mut analyze(&inputs, &results)), 0);
    // Whatever the threshold.
    for threshold in [None, Some("2")] {
        let mut command = cluster(&results);
        command.args(threshold.map(|t| format!("--distance-threshold={t}")));
        assert_code(&run(&mut command), 0);
        let found = clusters(&results);
        assert_eq!(found.len(), 2, "{found:?}");
        let mut all: Vec<Vec<&str>> = found.iter().map(|c| folders(c)).collect();
        all.sort();
        assert_eq!(all, [vec!["single_face", "twins"], vec!["twins"]]);
    }
    assert_code(&run(cluster(&results).args(["--min-frames", "1000"])), 0);
    assert_eq!(clusters(&results).len(), 3);
    assert_code(
        &run(cluster(&results).args(["--distance-threshold", "0"])),
        2,
    );
}

/// Writes embeddings with the values of `metadata` changed, and all numbers by `number`.
fn tamper(path: &Path, key: &str, value: &str, number: impl Fn(f32) -> f32) {
    let bytes = fs::read(path).expect("written");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("valid");
    let mut metadata: HashMap<String, String> = header.metadata().clone().expect("metadata");
    metadata.insert(key.to_owned(), value.to_owned());
    let file = SafeTensors::deserialize(&bytes).expect("valid");
    let tensor = file.tensor("embeddings").expect("there");
    let numbers: Vec<u8> = values(tensor.data())
        .flat_map(|v| number(v).to_le_bytes())
        .collect();
    let shape = tensor.shape().to_vec();
    let tensor = TensorView::new(Dtype::F32, shape, &numbers).expect("of that size");
    safetensors::serialize_to_file([("embeddings", tensor)], Some(metadata), path)
        .expect("writable");
}

fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("out");
    let gallery = folder.path().join("g.safetensors");
    let fails = |command: &mut Command, code: i32, text: &str| {
        let output = run(command);
        assert_code(&output, code);
        assert!(
            stderr(&output).contains(text),
            "{text}: {}",
            stderr(&output)
        );
    };
    fails(&mut cluster(&results), 1, "is not a folder");
    assert!(!results.exists());
    fails(
        &mut cluster(folder.path()),
        1,
        "no results of `facepipe analyze`",
    );
    let inputs = ["multi_face.jpg", "single_face.jpg", "no_face.mp4"].map(media);
    assert_code(&run(&mut analyze(&inputs, &results)), 0);
    let named = |pair: &str| name_strangers(&results, &[pair], &gallery);
    fails(&mut named("stranger-1=A"), 1, "`facepipe cluster` makes it");
    assert_code(&run(&mut cluster(&results)), 0);
    let whole = fs::read(results.join("clusters.json")).expect("written");

    fails(
        &mut named("stranger-7=A"),
        1,
        "there are stranger-1, stranger-2, stranger-3,",
    );
    fails(&mut named("Anna"), 2, "expected STRANGER=NAME");
    fails(&mut named("stranger-1= "), 2, "empty");
    fails(named("stranger-1=A").arg("stranger-1=B"), 1, "cannot be");
    fails(
        named("stranger-1=A").args(["--augment", "3"]),
        2,
        "cannot be used with",
    );
    fails(
        facepipe().args(["enroll", "a", "b=c", "-o", "x"]),
        2,
        "--from-clusters",
    );
    fs::write(&gallery, "no gallery").expect("writable");
    fails(&mut named("stranger-1=A"), 1, "not a gallery");
    assert_eq!(
        fs::read_to_string(&gallery).expect("as it was"),
        "no gallery"
    );
    fs::remove_file(&gallery).expect("there");

    // Analysed again, with other tracks.
    let tracks = results.join("multi_face/tracks.safetensors");
    let intact = fs::read(&tracks).expect("written");
    tamper(&tracks, "model", "sface", |v| -v);
    fails(
        named("stranger-1=A").args(["stranger-2=B", "stranger-3=C"]),
        1,
        "analysed again after `facepipe cluster`",
    );
    // By another model.
    tamper(&tracks, "model-sha256", &"0".repeat(64), |v| v);
    fails(
        &mut cluster(&results),
        1,
        "cannot be compared; analyse all with one model",
    );
    tamper(
        &results.join("single_face/tracks.safetensors"),
        "model-sha256",
        &"0".repeat(64),
        |v| v,
    );
    assert_code(&run(&mut cluster(&results)), 0);
    assert_code(&run(&mut named("stranger-1=A")), 0);
    let photos = people(&[("Tom", "Tom_Hanks_54745.png")]);
    assert_code(&run(&mut enroll(photos.path())), 0);
    let other = photos.path().join("g.safetensors");
    fails(
        &mut name_strangers(&results, &["stranger-1=A"], &other),
        1,
        "name another gallery to write",
    );

    // An unreadable one is left out, and nothing is written if all are unreadable.
    fs::write(&tracks, &intact[..intact.len() / 2]).expect("writable");
    fails(&mut cluster(&results), 3, "left out multi_face");
    assert_eq!(clusters(&results).len(), 1);
    fs::write(results.join("clusters.json"), &whole).expect("writable");
    for input in ["single_face", "no_face"] {
        fs::write(results.join(input).join("summary.json"), "{").expect("writable");
    }
    fails(&mut cluster(&results), 1, "none of the results");
    assert_eq!(
        fs::read(results.join("clusters.json")).expect("as it was"),
        whole
    );

    // Nobody is a valid answer.
    let empty = folder.path().join("empty");
    assert_code(&run(&mut analyze(&[media("no_face.mp4")], &empty)), 0);
    let output = run(&mut cluster(&empty));
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "all tracks have a name\n");
    assert_eq!(clusters(&empty).len(), 0);
    fails(
        &mut name_strangers(&empty, &["stranger-1=A"], &gallery),
        1,
        "there are no strangers",
    );
}
