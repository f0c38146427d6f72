//! `facepipe search` as its users run it, on real pictures.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::{
    analyze, assert_code, copy, enroll, facepipe, media, people, run, stderr, stdout,
};

fn search(photos: &[&str], results: &Path) -> Command {
    let mut command = facepipe();
    command.arg("search");
    command.args(photos.iter().map(|name| media(name)));
    command.arg(results).arg("--json");
    command
}

/// The result, and what was said.
fn found(command: &mut Command) -> (Value, String) {
    let output = run(command);
    assert_code(&output, 0);
    let json = serde_json::from_str(&stdout(&output)).expect("JSON");
    (json, stderr(&output))
}

/// In alphabetical order: the same picture in two folders has one distance.
fn folders(found: &Value) -> Vec<&str> {
    let hits = found["hits"].as_array().expect("a list");
    let folders = hits.iter().map(|hit| hit["folder"].as_str().expect("text"));
    let mut folders: Vec<&str> = folders.collect();
    folders.sort_unstable();
    folders
}

/// Results of two pictures.
fn results() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let films = folder.path().join("films");
    copy("single_face.jpg", &films.join("man.jpg"));
    copy("multi_face.jpg", &films.join("band.jpg"));
    let results = folder.path().join("results");
    assert_code(&run(&mut analyze(&[&films], &results)), 0);
    (folder, results)
}

#[test]
fn a_face_is_found_where_it_was_seen_and_nowhere_else() {
    let (folder, results) = results();
    let (json, said) = found(&mut search(&["single_face.jpg"], &results));
    assert_eq!(folders(&json), ["man"], "{said}");
    let hit = &json["hits"][0];
    assert!(hit["distance"].as_f64().is_some_and(|d| d < 0.1), "{hit}");
    assert!(
        hit["input"]
            .as_str()
            .is_some_and(|i| i.ends_with("films/man.jpg"))
    );
    let picture = hit["thumbnail"].as_str().expect("a picture");
    assert!(Path::new(picture).is_file());
    assert_eq!((&json["films"], &json["tracks"]), (&2.into(), &6.into()));
    let (json, _) = found(&mut search(&["Tom_Hanks_54745.png"], &results));
    assert!(folders(&json).is_empty(), "{json}");
    // Two photos are one person: the mean is near neither.
    let (json, _) = found(
        search(&["single_face.jpg", "Tom_Hanks_54745.png"], &results).args([
            "--distance-threshold",
            "2",
            "--limit",
            "2",
        ]),
    );
    assert_eq!(json["hits"][0]["folder"], "man");
    assert_eq!(
        (json["hits"].as_array().map(Vec::len), &json["more"]),
        (Some(2), &true.into())
    );
    assert!(
        json["hits"][0]["distance"]
            .as_f64()
            .is_some_and(|d| d > 0.1)
    );

    let page = folder.path().join("page.html");
    let mut command = search(&["single_face.jpg"], &results);
    command.arg("--html").arg(&page);
    found(&mut command);
    let text = fs::read_to_string(&page).expect("written");
    for part in [
        "Content-Security-Policy",
        "man.jpg#t=0.000",
        "data:image/jpeg;base64,",
        "<h1>",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("http://") && !text.contains("https://"));
    let mode = fs::metadata(&page).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_index_grows_and_whatever_happens_to_it_the_answer_is_right() {
    let (folder, results) = results();
    let index = results.join("search.index");
    let man = || found(&mut search(&["single_face.jpg"], &results));
    assert_eq!(folders(&man().0), ["man"]);
    let first = fs::read(&index).expect("written");
    let mode = fs::metadata(&index).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Another film is appended by analyze itself.
    let more = folder.path().join("more");
    copy("single_face.jpg", &more.join("again.jpg"));
    assert_code(&run(&mut analyze(&[&more], &results)), 0);
    let second = fs::read(&index).expect("there");
    assert!(second.starts_with(&first) && second.len() > first.len());
    let (json, _) = man();
    assert_eq!(folders(&json), ["again", "man"]);
    assert_eq!(fs::read(&index).expect("there"), second, "it is only read");

    // A part of a batch, because a writer was killed.
    let mut file = OpenOptions::new().append(true).open(&index).expect("there");
    file.write_all(&first[first.len() / 2..]).expect("writable");
    drop(file);
    let damaged = man();
    assert_eq!(folders(&damaged.0), ["again", "man"], "{}", damaged.1);
    fs::write(&index, &second[..second.len() - 9]).expect("writable");
    assert_eq!(folders(&man().0), ["again", "man"]);
    assert_eq!(fs::read(&index).expect("there"), second);
    for bytes in [b"no index".to_vec(), Vec::new(), second[20..].to_vec()] {
        fs::write(&index, bytes).expect("writable");
        let (json, said) = man();
        assert_eq!(folders(&json), ["again", "man"]);
        assert!(said.contains("made again"), "{said}");
    }

    // A film that was analysed again, and one that is gone.
    copy("Tom_Hanks_54745.png", &more.join("again.jpg"));
    assert_code(&run(&mut analyze(&[&more], &results)), 0);
    assert_eq!(folders(&man().0), ["man"]);
    let (json, _) = found(&mut search(&["Tom_Hanks_54745.png"], &results));
    assert_eq!(folders(&json), ["again"]);
    fs::remove_dir_all(results.join("man")).expect("there");
    assert!(folders(&man().0).is_empty());
}

#[test]
fn a_forgotten_person_is_not_in_the_index() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let films = folder.path().join("films");
    copy("single_face.jpg", &films.join("1.jpg"));
    copy("Tom_Hanks_54745.png", &films.join("2.png"));
    let results = folder.path().join("results");
    let mut command = analyze(&[&films], &results);
    command
        .arg("--gallery")
        .arg(folder.path().join("g.safetensors"));
    assert_code(&run(&mut command), 0);
    let (json, _) = found(&mut search(&["single_face.jpg"], &results));
    assert_eq!(json["hits"][0]["person"], "Ann", "{json}");
    let mut command = facepipe();
    command.args(["forget", "Ann"]).arg(&results);
    assert_code(&run(&mut command), 0);
    assert!(!results.join("search.index").exists());
    let (json, _) = found(&mut search(&["single_face.jpg"], &results));
    assert!(folders(&json).is_empty(), "{json}");
    assert_eq!(json["tracks"], 1);
}

#[test]
fn the_index_goes_even_if_the_film_of_the_person_was_deleted() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let films = folder.path().join("films");
    copy("single_face.jpg", &films.join("1.jpg"));
    copy("Tom_Hanks_54745.png", &films.join("2.png"));
    let results = folder.path().join("results");
    assert_code(&run(&mut analyze(&[&films], &results)), 0);
    // The folder counts once.
    let (json, _) = found(search(&["single_face.jpg"], &results).arg(results.join(".")));
    assert_eq!(json["tracks"], 2);
    fs::remove_dir_all(results.join("1")).expect("there");
    let mut command = facepipe();
    command.args(["forget", "Ann"]).arg(&results);
    command.arg(folder.path().join("g.safetensors"));
    assert_code(&run(&mut command), 0);
    assert!(!results.join("search.index").exists());
}

#[test]
fn what_cannot_be_searched_is_said() {
    let (folder, results) = results();
    let refused = |command: &mut Command, text: &str| {
        let output = run(command);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    };
    refused(
        &mut search(&["multi_face.jpg"], &results),
        "5 faces; --largest takes",
    );
    refused(
        &mut search(&["free-mountain-vector-01.jpg"], &results),
        "no face found",
    );
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("writable");
    refused(
        &mut search(&["single_face.jpg"], &empty),
        "no results of `facepipe analyze` in",
    );
    let mut none = facepipe();
    refused(
        none.arg("search").arg(&results).arg(&empty),
        "there is no photo",
    );
    let mut none = facepipe();
    let photo = media("single_face.jpg");
    refused(
        none.arg("search").arg(&photo).arg(&photo),
        "no folder of results",
    );
    // One photo without a face is left out.
    let output = run(&mut search(
        &["free-mountain-vector-01.jpg", "single_face.jpg"],
        &results,
    ));
    assert_code(&output, 3);
    assert!(stderr(&output).contains("left out"), "{}", stderr(&output));
}
