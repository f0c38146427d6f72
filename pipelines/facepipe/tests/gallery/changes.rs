//! Tests galleries that several processes change at once, unusual places to write to, and
//! impossible names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::common::{ends_at_once, make_node, wait_for};

/// The same numbers in every run.
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

/// A folder with the gallery `g.safetensors` of this many people with three rows each, made by SFace.
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

/// One of twenty workers that change one gallery, each its own people. Returns their final state.
fn work(folder: &Folder, worker: usize) -> People {
    let mut random = Random(worker as u64);
    let mut person = format!("worker {worker}");
    let sources: BTreeSet<String> = (0..3).map(|i| format!("{worker}/{i}.jpg")).collect();
    let mut own = People::from([(person.clone(), sources)]);
    for step in 0..3 {
        // Photos take long, so only two in total.
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
    wait_for(
        &mut process,
        "waiting for another facepipe that is changing",
    );
    ends_at_once(process);
    assert_eq!(fs::read(folder.file()).expect("readable"), before);

    let mut process = rename().spawn().expect("starts");
    wait_for(
        &mut process,
        "waiting for another facepipe that is changing",
    );
    // As left by a killed process.
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

    // A reader that has stopped reading.
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
        // SAFETY: only asks how many bytes wait in the pipe.
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

    // Made by others: cannot be used, but repaired.
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

/// Large galleries, which are mapped into memory, can be changed, too.
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
