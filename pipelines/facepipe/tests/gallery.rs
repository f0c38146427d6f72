//! `facepipe gallery` and `enroll --augment`, as their users run them, on real photos.

mod changes;
mod convert;
mod strangers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use face_gallery::{Gallery, ModelId, Row};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{assert_code, enroll, facepipe, media, names, people, run, stderr, stdout};

/// A folder that contains the gallery `g.safetensors` of some photos.
struct Folder(TempDir);

impl Folder {
    fn of(photos: &[(&str, &str)], options: &[&str]) -> Self {
        let folder = people(photos);
        assert_code(&run(enroll(folder.path()).args(options)), 0);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("g.safetensors")
    }

    /// Runs `facepipe gallery COMMAND FILE ARGS`.
    fn run(&self, command: &str, args: &[&str]) -> Output {
        gallery(command, &self.file(), args)
    }

    #[track_caller]
    fn json(&self, command: &str, args: &[&str], code: i32) -> Value {
        let output = self.run(command, &[args, &["--json"]].concat());
        assert_code(&output, code);
        serde_json::from_str(&stdout(&output)).expect("JSON and nothing else")
    }

    #[track_caller]
    fn read(&self) -> Gallery {
        Gallery::read(&self.file()).expect("a gallery")
    }

    /// Runs a command that must fail and change nothing. Returns its error text.
    #[track_caller]
    fn refuses(&self, command: &str, args: &[&str]) -> String {
        let before = fs::read(self.file()).expect("readable");
        let files = names(self.0.path());
        let output = self.run(command, args);
        assert_code(&output, 1);
        assert_eq!(fs::read(self.file()).expect("readable"), before);
        assert_eq!(names(self.0.path()), files, "no temporary file is left");
        stderr(&output)
    }
}

fn gallery(command: &str, file: &Path, args: &[&str]) -> Output {
    run(facepipe().args(["gallery", command]).arg(file).args(args))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

fn media_text(name: &str) -> String {
    media(name).to_str().expect("UTF-8").to_owned()
}

const ANN_AND_TOM: [(&str, &str); 2] =
    [("Ann", "0-f15-hao-ph.jpg"), ("Tom", "Tom_Hanks_54745.png")];

#[test]
fn variations_are_the_same_every_time_and_leave_photos_as_they_are() {
    let plain = Folder::of(&ANN_AND_TOM, &["--augment", "0"]);
    let folder = Folder::of(&ANN_AND_TOM, &["--augment", "3"]);
    let bytes = fs::read(folder.file()).expect("readable");
    let output = run(enroll(folder.0.path()).args(["--augment", "3", "--json"]));
    assert_code(&output, 0);
    assert_eq!(fs::read(folder.file()).expect("readable"), bytes);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&report["used"], &report["rows"]), (&json!(2), &json!(8)));
    assert_eq!(report["people"][1]["rows"], 4);

    let (all, photos) = (folder.read(), plain.read());
    assert_eq!(photos.len(), 2);
    for (row, photo) in [(0, 0), (4, 1)] {
        assert_eq!(all.row(row), photos.row(photo));
        assert_eq!(all.embedding(row), photos.embedding(photo), "bit by bit");
    }
    assert_eq!(all.row(3).source, "Ann/0-f15-hao-ph.jpg#3");
    for row in [1, 2, 3] {
        let nearest = photos.nearest(&all.embedding(row), 1)[0];
        assert_eq!(nearest.person, 0, "still Ann");
        assert!((0.001..0.637).contains(&nearest.distance), "{nearest:?}");
    }
    // The first of many variations are the same as those of few.
    let one = Folder::of(&ANN_AND_TOM[..1], &["--augment", "1"]);
    assert_eq!(one.read().embedding(1), all.embedding(1));

    let table = stdout(&run(enroll(folder.0.path()).args(["--augment", "2"])));
    assert!(
        table.contains("person    images  faces used  left out  rows"),
        "{table}"
    );
    assert!(
        table.contains("Tom            1           1         0     3"),
        "{table}"
    );
}

#[test]
fn info_and_list_say_what_is_in_it() {
    let folder = Folder::of(&ANN_AND_TOM, &["--augment", "2"]);
    let info = folder.json("info", &[], 0);
    let size = fs::metadata(folder.file()).expect("exists").len();
    for (key, value) in [
        ("model", json!("sface")),
        ("dimensions", json!(128)),
        ("people", json!(2)),
        ("images", json!(2)),
        ("rows", json!(6)),
        ("bytes", json!(size)),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    let text = stdout(&folder.run("info", &[]));
    assert!(
        text.contains("\nmodel       sface\n") && text.contains("\nrows        6\n"),
        "{text}"
    );

    let list = folder.json("list", &[], 0);
    let tom = json!({
        "person": "Tom",
        "rows": 3,
        "images": [{"source": "Tom/Tom_Hanks_54745.png", "rows": 3}]
    });
    assert_eq!(list["people"][1], tom);
    assert_eq!(
        stdout(&folder.run("list", &[])),
        "Ann: 1 image, 3 rows\n  Ann/0-f15-hao-ph.jpg and 2 variations\n\
         Tom: 1 image, 3 rows\n  Tom/Tom_Hanks_54745.png and 2 variations\n"
    );
    for command in ["info", "list", "verify"] {
        let output = gallery(command, &folder.path("none"), &[]);
        assert_code(&output, 1);
        assert!(stderr(&output).contains("facepipe enroll"));
    }
    assert_code(&run(facepipe().arg("gallery")), 2);
}

#[test]
fn add_enrols_more_photos_and_leaves_out_known_ones() {
    let folder = Folder::of(&ANN_AND_TOM, &["--augment", "0"]);
    let before = folder.read();
    fs::create_dir(folder.path("more")).expect("writable");
    for (photo, name) in [
        ("15-f13-anc-ph.jpg", "more/0-f15-hao-ph.jpg"),
        ("0-f15-hao-ph.jpg", "more/again.jpg"),
    ] {
        fs::copy(media(photo), folder.path(name)).expect("writable");
    }
    let (more, single) = (folder.path("more"), media_text("single_face.jpg"));
    let more = more.to_str().expect("UTF-8");
    let report = folder.json("add", &["Ann", more, &single, "--augment", "1"], 3);
    assert_eq!((&report["used"], &report["rows"]), (&json!(2), &json!(4)));
    let reason = &report["left_out"][0]["reason"];
    assert_eq!(reason, "already in the gallery as Ann/0-f15-hao-ph.jpg");

    let after = folder.read();
    let sources: Vec<String> = after.rows()[2..]
        .iter()
        .map(|row| row.source.clone())
        .collect();
    assert_eq!(
        sources,
        [
            "Ann/0-f15-hao-ph (2).jpg",
            "Ann/0-f15-hao-ph (2).jpg#1",
            "Ann/single_face.jpg",
            "Ann/single_face.jpg#1"
        ]
    );
    assert_eq!((after.people(), after.images_of(0)), (before.people(), 3));
    for row in 0..before.len() {
        assert_eq!(after.embedding(row), before.embedding(row), "bit by bit");
    }
    assert_eq!(mode(&folder.file()), 0o600);
    // A photo gives the same row, however it was added.
    let enrolled = Folder::of(&[("x", "single_face.jpg")], &["--augment", "0"]);
    assert_eq!(after.embedding(4), enrolled.read().embedding(0));

    assert_code(
        &folder.run("add", &["New", &media_text("0-f1-su-ph.jpg")]),
        0,
    );
    assert_eq!(folder.read().people(), ["Ann", "Tom", "New"]);
    let again = folder.refuses("add", &["Ann", &single]);
    assert!(again.contains("nothing to add"), "{again}");
    let group = folder.refuses("add", &["Ann", &media_text("multi_face.jpg")]);
    assert!(group.contains("nothing to add"), "{group}");
    assert!(
        folder
            .refuses("add", &["Ann", "none.jpg"])
            .contains("none.jpg does not exist")
    );
}

#[test]
fn a_gallery_of_another_model_takes_no_photos_and_is_not_merged() {
    let folder = Folder::of(&ANN_AND_TOM[..1], &[]);
    let write = |name: &str, sha256: &str| {
        let model = ModelId {
            name: name.into(),
            sha256: sha256.repeat(32),
        };
        let mut other = Gallery::new(model, 128);
        let row = Row {
            person: "Eve".into(),
            source: "x".into(),
        };
        assert!(other.push(row, &[1.0; 128]));
        other.write(&folder.path("other")).expect("writable");
    };
    let photo = media_text("single_face.jpg");
    let add = || {
        let output = gallery("add", &folder.path("other"), &["Eve", &photo]);
        assert_code(&output, 1);
        stderr(&output)
    };
    write("sface", "ab");
    let text = add();
    assert!(
        text.contains("sha256 abababababab") && text.contains("0ba9fbfa01b5"),
        "{text}"
    );
    write("arcface", "ab");
    assert!(
        add().contains("made by the model `arcface`; name its file with --model"),
        "{}",
        add()
    );
    let verify = gallery("verify", &folder.path("other"), &[]);
    assert_code(&verify, 1);
    assert!(stderr(&verify).contains("--distance-threshold"));
    let verify = ["--distance-threshold", "0.5", "--min-images", "1"];
    assert_code(&gallery("verify", &folder.path("other"), &verify), 0);

    let other = folder.path("other");
    let other = other.to_str().expect("UTF-8");
    let out = folder.path("out");
    let text = folder.refuses("merge", &[other, "-o", out.to_str().expect("UTF-8")]);
    assert!(text.contains("sface (sha256 0ba9fbfa01b5…)"), "{text}");
    assert!(
        text.contains("arcface (sha256 abababababab…)") && text.contains(other),
        "{text}"
    );
}

#[test]
fn people_are_removed_and_renamed() {
    let folder = Folder::of(
        &[
            ("Ann", "0-f15-hao-ph.jpg"),
            ("Ann", "15-f13-anc-ph.jpg"),
            ("Anna", "0-f1-su-ph.jpg"),
            ("Tom", "Tom_Hanks_54745.png"),
        ],
        &["--augment", "1"],
    );
    let mut noted = folder.read();
    noted.notes.insert("made-for".into(), "the party".into());
    noted.write(&folder.file()).expect("writable");

    for (command, args, says) in [
        ("remove", &["ann"][..], r#"similar: "Ann", "Anna""#),
        ("remove", &["Ann", "Tim"], r#"similar: "Tom""#),
        ("remove", &["Ann", "--image", "1.jpg"], "gallery list"),
        (
            "remove",
            &["Tom", "--image", "Ann/0-f15-hao-ph.jpg"],
            "no image",
        ),
        (
            "remove",
            &["Ann", "--image", "Ann/0-f15-hao-ph.jpg#1"],
            "a variation",
        ),
        ("rename", &["Tim", "Tom"], r#"similar: "Tom""#),
        ("rename", &["Anna", "Ann"], "--into-existing"),
        (
            "rename",
            &["Anna", "Anne", "--into-existing"],
            r#"similar: "Ann", "Anna""#,
        ),
        ("rename", &["Anna", ""], "empty"),
    ] {
        let text = folder.refuses(command, args);
        assert!(text.contains(says), "{command} {args:?}: {text}");
    }

    let output = folder.run("remove", &["Ann", "--image", "Ann/0-f15-hao-ph.jpg"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "removed 2 rows, left 3 people, 6 rows\n");
    // A link stays a link.
    fs::rename(folder.file(), folder.path("real")).expect("renamed");
    std::os::unix::fs::symlink("real", folder.file()).expect("linked");
    assert_code(
        &folder.run("rename", &["Anna", "Ann", "--into-existing"]),
        0,
    );
    assert_code(&folder.run("rename", &["Tom", "Thomas Jeffrey"]), 0);
    assert!(folder.file().is_symlink());
    assert_eq!(mode(&folder.path("real")), 0o600);
    let gallery = folder.read();
    assert_eq!(gallery.people(), ["Ann", "Thomas Jeffrey"]);
    assert_eq!((gallery.rows_of(0), gallery.images_of(0)), (4, 2));
    assert_eq!(gallery.row(4).source, "Tom/Tom_Hanks_54745.png");
    assert_eq!(gallery.embedding(4), noted.embedding(6));
    assert_eq!(gallery.notes, noted.notes);
    assert_eq!(names(folder.0.path()), ["g.safetensors", "people", "real"]);

    assert_code(&folder.run("remove", &["Ann", "Thomas Jeffrey"]), 0);
    assert!(folder.read().is_empty());
}

#[test]
fn merge_joins_people_of_one_name_and_drops_duplicates() {
    let folder = Folder::of(&ANN_AND_TOM, &["--augment", "2"]);
    let other = Folder::of(
        &[
            ("Ann", "0-f15-hao-ph.jpg"),
            ("Ann", "15-f13-anc-ph.jpg"),
            ("Eve", "0-f1-su-ph.jpg"),
        ],
        &["--augment", "2"],
    );
    let first = folder.read();
    let (file, other) = (folder.file(), other.file());
    let (file, other) = (
        file.to_str().expect("UTF-8"),
        other.to_str().expect("UTF-8"),
    );
    // Onto itself.
    let merge = folder.json("merge", &[other, "-o", file], 0);
    assert_eq!(
        (&merge["people"], &merge["rows"], &merge["duplicates"]),
        (&json!(3), &json!(12), &json!(3))
    );
    assert_eq!(merge["inputs"][1]["rows"], 6);
    let all = folder.read();
    assert_eq!(all.people(), ["Ann", "Tom", "Eve"]);
    assert_eq!((all.images_of(0), all.images_of(2)), (2, 1));
    assert_eq!(all.embedding(5), first.embedding(5));
    assert_eq!(mode(&folder.file()), 0o600);
    // Nothing new the second time.
    let table = stdout(&folder.run("merge", &[other, "-o", file]));
    assert!(table.contains("rows taken  duplicates"), "{table}");
    assert_eq!(folder.read(), all);
    assert_code(&folder.run("merge", &["-o", file]), 2);
    assert!(
        folder
            .refuses("merge", &["none", "-o", file])
            .contains("none does not exist")
    );
}

#[test]
fn verify_finds_what_is_wrong() {
    let folder = people(&[
        ("Ann", "0-f15-hao-ph.jpg"),
        ("Jin", "single_face.jpg"),
        ("Tom", "Tom_Hanks_54745.png"),
    ]);
    let at = |name: &str| folder.path().join("people").join(name);
    // One man's photo among those of another; a copy; the same photo under two names.
    fs::copy(media("single_face.jpg"), at("Jin/copy.jpg")).expect("writable");
    fs::copy(media("Tom_Hanks_54745.png"), at("Ann/wrong.png")).expect("writable");
    assert_code(&run(enroll(folder.path()).args(["--augment", "3"])), 0);
    let folder = Folder(folder);
    let found = folder.json("verify", &[], 3);
    assert_eq!(
        found["duplicates"],
        json!([
            {"people": ["Ann", "Tom"], "sources": ["Ann/wrong.png", "Tom/Tom_Hanks_54745.png"]},
            {"people": ["Jin", "Jin"], "sources": ["Jin/copy.jpg", "Jin/single_face.jpg"]}
        ])
    );
    assert_eq!(found["mislabelled"].as_array().map(Vec::len), Some(1));
    let wrong = &found["mislabelled"][0];
    assert_eq!(
        (&wrong["person"], &wrong["source"]),
        (&json!("Ann"), &json!("Ann/wrong.png"))
    );
    assert_eq!(wrong["nearest_person"], "Tom");
    assert_eq!(found["alike"][0]["people"], json!(["Ann", "Tom"]));
    let images: Vec<&Value> = (0..3).map(|i| &found["few_images"][i]["images"]).collect();
    assert_eq!(images, [2, 2, 1], "images, not rows");
    let text = stdout(&folder.run("verify", &[]));
    for line in [
        "people who look alike",
        "  Ann/wrong.png of Ann: 0.000 to Tom (Tom/Tom_Hanks_54745.png), ",
        "images that occur twice",
        "  Tom: 1 image\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    // Fixed as the output suggests.
    assert_code(
        &folder.run("remove", &["Ann", "--image", "Ann/wrong.png"]),
        0,
    );
    assert_code(
        &folder.run("remove", &["Jin", "--image", "Jin/copy.jpg"]),
        0,
    );
    let found = folder.json("verify", &["--min-images", "1"], 0);
    assert_eq!(found["duplicates"], json!([]));
    let text = stdout(&folder.run("verify", &["--min-images", "0"]));
    assert_eq!(text, "no problems in 3 people, 3 images\n");
    assert_code(&folder.run("verify", &[]), 3);
    // With a looser threshold, others look alike.
    let loose = folder.json(
        "verify",
        &["--min-images", "1", "--distance-threshold", "1.2"],
        3,
    );
    assert!(!loose["alike"].as_array().expect("pairs").is_empty());
    assert_code(&folder.run("verify", &["--distance-threshold", "0"]), 2);
}
