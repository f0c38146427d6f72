//! `facepipe gallery` and `enroll --augment`, as their users run them, on real photos.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gstfacerecog::gallery::{Gallery, ModelId, Row};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::{
    assert_code, ends_at_once, enroll, facepipe, make_node, media, names, people, run, stderr,
    stdout, wait_for,
};

/// A folder with the gallery `g.safetensors` of some photos.
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

    /// Runs a command that must fail and change nothing; returns what it says.
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
    // The first of more variations are those of fewer.
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
    // A photo is the same row whichever way it came.
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
        add().contains("made by the model `arcface`; name its file by --model"),
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
    // What is a link stays one.
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
    // The photo of one man among those of another; a copy; the same photo under two names.
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
        "images that are there twice",
        "  Tom: 1 image\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    // Repaired as it says.
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
    assert_eq!(text, "nothing doubtful in 3 people, 3 images\n");
    assert_code(&folder.run("verify", &[]), 3);
    // With a looser threshold others are alike.
    let loose = folder.json(
        "verify",
        &["--min-images", "1", "--distance-threshold", "1.2"],
        3,
    );
    assert!(!loose["alike"].as_array().expect("pairs").is_empty());
    assert_code(&folder.run("verify", &["--distance-threshold", "0"]), 2);
}

/// A gallery that is large enough to be mapped.
#[test]
fn large_galleries_are_changed_too() {
    let folder = Folder::of(&ANN_AND_TOM, &["--augment", "1"]);
    let small = folder.read();
    let mut large = Gallery::new(small.model.clone(), 128);
    let mut state = 1u64;
    for i in 0..65_600 {
        let embedding: Vec<f32> = (0..128)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        let row = Row {
            person: format!("p{}", i / 8),
            source: format!("{i}.jpg"),
        };
        assert!(large.push(row, &embedding));
    }
    let file = folder.path("large");
    large.write(&file).expect("writable");
    let len = |file: &Path| {
        let gallery = Gallery::read(file).expect("a gallery");
        assert_eq!(gallery.embedding(1), large.embedding(1), "bit by bit");
        gallery.len()
    };
    assert!(fs::metadata(&file).expect("exists").len() > 32 << 20);

    let path = file.to_str().expect("UTF-8");
    let small_path = folder.file();
    let merged = gallery(
        "merge",
        &file,
        &[small_path.to_str().expect("UTF-8"), "-o", path],
    );
    assert_code(&merged, 0);
    assert_eq!(len(&file), 65_604);
    let photo = media_text("single_face.jpg");
    assert_code(
        &gallery("add", &file, &["Jin", &photo, "--augment", "1"]),
        0,
    );
    assert_eq!(len(&file), 65_606);
    assert_code(&gallery("rename", &file, &["Jin", "Jim"]), 0);
    assert_code(&gallery("remove", &file, &["Ann", "p7"]), 0);
    assert_eq!(len(&file), 65_606 - 10);
    assert_eq!(mode(&file), 0o600);
    let info: Value =
        serde_json::from_str(&stdout(&gallery("info", &file, &["--json"]))).expect("JSON");
    assert_eq!(
        (&info["people"], &info["images"]),
        (&json!(8201), &json!(65_594))
    );
    assert_eq!(
        Gallery::read(&file)
            .expect("a gallery")
            .people()
            .last()
            .map(String::as_str),
        Some("Jim")
    );
    assert_eq!(names(folder.0.path()), ["g.safetensors", "large", "people"]);
}

/// Numbers that are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn embedding(&mut self) -> Vec<f32> {
        (0..128).map(|_| self.below(2001) as f32 - 1000.0).collect()
    }
}

/// The sources of each person.
type People = BTreeMap<String, BTreeSet<String>>;

fn people_of(gallery: &Gallery) -> People {
    let mut people = People::new();
    for row in gallery.rows() {
        people.entry(row.person).or_default().insert(row.source);
    }
    people
}

fn push(gallery: &mut Gallery, person: &str, source: &str, random: &mut Random) {
    let row = Row {
        person: person.into(),
        source: source.into(),
    };
    assert!(gallery.push(row, &random.embedding()));
}

/// A file with the gallery `g.safetensors` of so many people with three rows each, of SFace's model.
fn made(people: usize) -> Folder {
    let folder = Folder::of(&[("Ann", "single_face.jpg")], &[]);
    let mut gallery = folder.read();
    let mut random = Random(7);
    for worker in 0..people {
        for image in 0..3 {
            let person = format!("worker {worker}");
            push(
                &mut gallery,
                &person,
                &format!("{worker}/{image}.jpg"),
                &mut random,
            );
        }
    }
    gallery.write(&folder.file()).expect("writable");
    folder
}

/// One of twenty who change one gallery, each its own people: what they are at the end.
fn work(folder: &Folder, worker: usize) -> People {
    let mut random = Random(worker as u64);
    let mut person = format!("worker {worker}");
    let sources: BTreeSet<String> = (0..3).map(|i| format!("{worker}/{i}.jpg")).collect();
    let mut own = People::from([(person.clone(), sources)]);
    for step in 0..3 {
        // Photos take long: two of all.
        let output = match random.below(3) {
            _ if worker < 2 && step == 0 => {
                let theirs = own.entry(person.clone()).or_default();
                theirs.insert(format!("{person}/single_face.jpg"));
                folder.run("add", &[&person, &media_text("single_face.jpg")])
            }
            0 => {
                let new = format!("worker {worker}.{step}");
                let theirs = own.remove(&person).expect("their own");
                own.insert(new.clone(), theirs);
                let output = folder.run("rename", &[&person, &new]);
                person = new;
                output
            }
            1 => {
                let theirs = own.get_mut(&person).expect("their own");
                let gone = theirs.pop_first().expect("three rows at first");
                if theirs.is_empty() {
                    own.remove(&person);
                }
                folder.run("remove", &[&person, "--image", &gone])
            }
            _ => {
                let mut more = Gallery::new(folder.read().model, 128);
                let (name, source) = (format!("friend {worker}.{step}"), "friend.jpg");
                push(&mut more, &name, source, &mut random);
                own.insert(name, BTreeSet::from([source.into()]));
                let file = folder.path(&format!("more {worker}.{step}"));
                more.write(&file).expect("writable");
                let (file, all) = (file.to_str().expect("UTF-8"), folder.file());
                folder.run("merge", &[file, "-o", all.to_str().expect("UTF-8")])
            }
        };
        assert_code(&output, 0);
        if !own.contains_key(&person) {
            break;
        }
    }
    own
}

#[test]
fn nothing_is_lost_when_twenty_change_a_gallery_at_once() {
    let folder = made(20);
    let before = people_of(&folder.read());
    let ann = before.get_key_value("Ann").expect("enrolled");
    let mut expected = People::from([(ann.0.clone(), ann.1.clone())]);
    std::thread::scope(|scope| {
        let folder = &folder;
        let workers: Vec<_> = (0..20)
            .map(|worker| scope.spawn(move || work(folder, worker)))
            .collect();
        for worker in workers {
            expected.extend(worker.join().expect("all commands end well"));
        }
    });
    assert_eq!(people_of(&folder.read()), expected);
    let left = names(folder.0.path());
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
}

#[test]
fn who_waits_for_a_gallery_says_so_and_not_for_ever() {
    let folder = made(1);
    let lock = folder.path(".g.safetensors.lock");
    let held = fs::File::create(&lock).expect("writable");
    held.lock().expect("free");
    let before = fs::read(folder.file()).expect("readable");
    let rename = || {
        let mut command = facepipe();
        command.args(["gallery", "rename"]).arg(folder.file());
        command.args(["Ann", "Anna"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let output = run(rename().env("FACEPIPE_LOCK_TIMEOUT", "0"));
    assert_code(&output, 1);
    let text = stderr(&output);
    assert!(
        text.contains("g.safetensors cannot be changed: another facepipe"),
        "{text}"
    );

    let mut process = rename().spawn().expect("starts");
    wait_for(&mut process, "waiting for another facepipe that changes");
    ends_at_once(process);
    assert_eq!(fs::read(folder.file()).expect("readable"), before);

    let mut process = rename().spawn().expect("starts");
    wait_for(&mut process, "waiting for another facepipe that changes");
    // What one that was killed leaves.
    drop(held);
    assert!(process.wait().expect("ends").success());
    assert!(folder.read().people().contains(&"Anna".to_owned()));
    assert!(!lock.exists());
}

#[test]
fn devices_pipes_and_links_are_written_to_and_stay() {
    let folder = made(100);
    let (file, name) = (folder.file(), folder.file());
    let name = name.to_str().expect("UTF-8");
    let merge = |to: &str| {
        let mut command = facepipe();
        command.args(["gallery", "merge", name, name, "-o", to]);
        command
            .current_dir(folder.0.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let bytes = fs::read(&file).expect("readable");
    // A device that is always full, like /dev/full.
    let full = folder.path("full");
    if make_node(&full, libc::S_IFCHR, libc::makedev(1, 7)) {
        let enroll = run(facepipe()
            .arg("enroll")
            .arg(folder.path("people"))
            .arg("-o")
            .arg(&full));
        for output in [enroll, run(&mut merge("full"))] {
            assert_code(&output, 1);
            let text = stderr(&output);
            assert!(
                text.contains("full cannot be written: No space left"),
                "{text}"
            );
            let kind = fs::symlink_metadata(&full).expect("there").file_type();
            assert!(kind.is_char_device(), "{kind:?}");
        }
    } else {
        eprintln!("skipped: no device can be made without root");
    }

    let fifo = folder.path("fifo");
    assert!(make_node(&fifo, libc::S_IFIFO, 0));
    let mut process = merge("fifo").spawn().expect("starts");
    wait_for(&mut process, "waiting for a reader of");
    ends_at_once(process);
    let mut reader = Command::new("cat");
    let reader = reader
        .arg(&fifo)
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat starts");
    assert_code(&run(&mut merge("fifo")), 0);
    let read = reader.wait_with_output().expect("ends").stdout;
    assert_eq!(read, bytes, "of one gallery twice, once");
    assert!(
        fs::symlink_metadata(&fifo)
            .expect("there")
            .file_type()
            .is_fifo()
    );

    std::os::unix::fs::symlink("to/real", folder.path("link")).expect("linked");
    fs::create_dir(folder.path("to")).expect("writable");
    assert_code(&run(&mut merge("link")), 0);
    assert!(folder.path("link").is_symlink());
    assert_eq!(fs::read(folder.path("to/real")).expect("written"), bytes);

    let output = run(&mut merge("-"));
    assert_code(&output, 0);
    assert!(output.stdout == bytes && stderr(&output).contains("rows taken"));
    let both = run(merge("-").arg("--json"));
    assert_code(&both, 1);
    assert!(both.stdout.is_empty() && !folder.path("-").exists());

    // A reader that has stopped.
    let mut process = merge("-").spawn().expect("starts");
    let pipe = process.stdout.take().expect("piped");
    let begun = Instant::now();
    let mut waiting = 0;
    while waiting < 1 << 16 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{waiting} bytes came"
        );
        std::thread::sleep(Duration::from_millis(20));
        // SAFETY: asks how many bytes wait in the pipe.
        unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut waiting) };
    }
    ends_at_once(process);
    let mut rest = Vec::new();
    { pipe }.read_to_end(&mut rest).expect("readable");
    assert!(bytes.starts_with(&rest) && rest.len() < bytes.len());
}

#[test]
fn names_that_cannot_be_are_refused_wherever_they_come_in() {
    let folder = made(1);
    let long = "x".repeat(100_000);
    let photo = media_text("single_face.jpg");
    let refused = "cannot be a person's name";
    for name in ["Unknown", "Ann\nBob", "Ann\u{202e}", "\u{1b}[2J", &long] {
        for text in [
            folder.refuses("add", &[name, &photo]),
            folder.refuses("rename", &["Ann", name]),
        ] {
            assert!(text.contains(refused) && text.len() < 400, "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    let camera = [
        "enroll", "--camera", "door", "--track", "1", "--person", "Unknown",
    ];
    let output = run(facepipe().args(camera));
    assert_code(&output, 1);
    assert!(stderr(&output).contains(refused), "{}", stderr(&output));
    fs::rename(folder.path("people/Ann"), folder.path("people/Unknown")).expect("writable");
    let before = fs::read(folder.file()).expect("readable");
    let output = run(&mut enroll(folder.0.path()));
    assert_code(&output, 1);
    assert!(stderr(&output).contains(refused), "{}", stderr(&output));
    assert_eq!(fs::read(folder.file()).expect("readable"), before);

    // Made by others: not used, but mended.
    let mut gallery = folder.read();
    for name in ["Unknown", "Eve\u{202e}\n"] {
        push(&mut gallery, name, "x.jpg", &mut Random(1));
    }
    gallery.write(&folder.file()).expect("writable");
    let text = folder.refuses("verify", &[]);
    assert!(
        text.contains("gallery rename") && text.contains("\"Unknown\" NEW"),
        "{text}"
    );
    let file = folder.file();
    let merged = folder.path("merged");
    let paths = [&file, &merged].map(|p| p.to_str().expect("UTF-8"));
    folder.refuses("merge", &[paths[0], "-o", paths[1]]);
    let listed = stdout(&folder.run("list", &[]));
    assert!(listed.contains("\"Eve\\u{202e}\\n\": 1 image"), "{listed}");
    assert_code(&folder.run("rename", &["Unknown", "Uma"]), 0);
    assert_code(&folder.run("remove", &["Eve\u{202e}\n"]), 0);
    assert_code(&folder.run("verify", &["--min-images", "0"]), 0);
}
