//! `facepipe forget` as its users run it: afterwards nothing in the folders contains the name.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use face_gallery::Gallery;
use serde_json::Value;

use crate::common::{
    analyze, assert_code, copy, enroll, facepipe, lines, names, people, run, stderr, stdout,
};

/// Not in any file by chance.
const ANN: &str = "Ann \"Zoë\" O'Hara";

const FAST: [&str; 3] = ["--no-age-gender", "--interval", "3"];

/// A gallery of Ann, who is in `single_face.mp4`, and of Wolf, who is in the other clip; the
/// results for both, and the output of `annotate`.
struct World {
    folder: tempfile::TempDir,
    out: PathBuf,
    gallery: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = people(&[(ANN, "single_face.jpg"), ("Tom", "Tom_Hanks_54745.png")]);
        let out = folder.path().join("out");
        fs::create_dir(&out).expect("writable");
        let gallery = out.join("g.safetensors");
        assert_code(&run(&mut enroll(folder.path())), 0);
        fs::rename(folder.path().join("g.safetensors"), &gallery).expect("renamed");
        let clip = copy("single_face.mp4", &folder.path().join("clip.mp4"));
        copy("Tom_Hanks_54745.png", &folder.path().join("tom.png"));
        let mut command = facepipe();
        command.arg("annotate").arg(&clip).args(FAST).arg("--json");
        command
            .arg(out.join("party.jsonl"))
            .arg("--gallery")
            .arg(&gallery);
        assert_code(&run(&mut command), 0);
        let world = Self {
            folder,
            out,
            gallery,
        };
        assert_code(&run(&mut world.analyze(&world.gallery)), 0);
        world
    }

    fn results(&self) -> PathBuf {
        self.out.join("results")
    }

    /// The analysis of the inputs with this gallery.
    fn analyze(&self, gallery: &Path) -> Command {
        let [clip, photo] = ["clip.mp4", "tom.png"].map(|name| self.folder.path().join(name));
        let mut command = analyze(&[&clip, &photo], &self.results());
        command.args(FAST).arg("--gallery").arg(gallery);
        command
    }

    fn forget(&self, person: &str, options: &[&str]) -> Command {
        let mut command = facepipe();
        command
            .arg("forget")
            .arg(person)
            .arg(&self.out)
            .args(options);
        command
    }
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

/// All files below a folder, with their contents.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push((path.clone(), fs::read(&path).expect("readable"))),
        }
    }
    files.sort();
    files
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("there");
    metadata.permissions().mode() & 0o777
}

#[test]
fn nothing_is_left_of_a_person() {
    let world = World::new();
    let results = world.results();
    let party = world.out.join("party.jsonl");
    // Rotated, and followed by another stream, whose track numbers belong to other people.
    fs::copy(&party, world.out.join("party.jsonl.1")).expect("writable");
    let others = r#"{"type":"frame","frame":0,"faces":[{"track":0,"name":"Tom"}]}"#;
    let event = serde_json::json!({"type": "event", "event": "person-appeared", "person": ANN});
    let events = world.out.join("events.jsonl");
    fs::write(&events, format!("{event}\n{others}\n")).expect("writable");
    fs::set_permissions(&events, fs::Permissions::from_mode(0o640)).expect("its owner may");
    fs::write(world.out.join("party.mp4"), "a video").expect("writable");
    // Private files are private from the start.
    assert_eq!(mode(&world.gallery), 0o600);
    assert_eq!(mode(&results.join("clip")), 0o700);
    assert_eq!(mode(&results.join("clip/tracks.safetensors")), 0o600);

    let summary = json(&results.join("clip/summary.json"));
    assert_eq!(summary["people"][0]["name"], ANN);
    let (frames, tracks) = lines(&results, "clip");
    assert!(!tracks.is_empty() && frames.len() > 50);
    let before = files(&world.out);
    let old_gallery = world.folder.path().join("old.safetensors");
    fs::copy(&world.gallery, &old_gallery).expect("writable");

    // A dry run changes nothing and reports what would be removed.
    let output = run(&mut world.forget(ANN, &["--dry-run", "--json"]));
    assert_code(&output, 0);
    assert_eq!(files(&world.out), before);
    let trial: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(trial["dry_run"], true);

    let output = run(&mut world.forget(ANN, &["--json"]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(report["edited"], trial["edited"], "what was said is done");
    let edited = report["edited"].as_array().expect("a list");
    assert_eq!(edited.len(), 5, "{edited:?}");
    assert_eq!(report["left"][0]["why"], "may-show");
    assert_eq!(
        report["left"].as_array().map(Vec::len),
        Some(1),
        "the video"
    );

    let escaped = serde_json::to_string(ANN).expect("JSON");
    let twice = escaped.trim_matches('"').replace('\\', "\\\\");
    for (path, bytes) in files(&world.out) {
        for name in [ANN, escaped.trim_matches('"'), &twice, "O'Hara"] {
            assert!(
                !has(&bytes, name.as_bytes()),
                "{} has {name}",
                path.display()
            );
        }
    }
    // The gallery and the other person's results are unchanged.
    let gallery = Gallery::read(&world.gallery).expect("a gallery");
    assert_eq!(gallery.people(), ["Tom"]);
    assert_eq!(mode(&world.gallery), 0o600);
    let tom = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
        let theirs = files
            .iter()
            .filter(|(path, _)| path.starts_with(results.join("tom")));
        theirs.cloned().collect()
    };
    assert!(tom(&before).len() >= 4);
    assert_eq!(tom(&files(&world.out)), tom(&before));
    // Every frame is still there, without the face. No embedding and no picture of it is left.
    let (after, tracks_after) = lines(&results, "clip");
    assert_eq!(after.len(), frames.len());
    let theirs: Vec<u64> = summary["tracks"]
        .as_array()
        .expect("tracks")
        .iter()
        .filter(|track| track["name"] == ANN)
        .map(|track| track["track"].as_u64().expect("a number"))
        .collect();
    assert!(!theirs.is_empty());
    assert_eq!(tracks_after.len(), tracks.len() - theirs.len());
    for face in after
        .iter()
        .flat_map(|f| f["faces"].as_array().expect("faces"))
    {
        assert!(!theirs.contains(&face["track"].as_u64().expect("tracked")));
    }
    for track in theirs {
        assert!(
            !results
                .join(format!("clip/thumbnails/{track}.jpg"))
                .exists()
        );
    }
    let summary = json(&results.join("clip/summary.json"));
    assert_eq!(summary["people"], Value::Array(vec![]));
    assert_eq!(
        names(&results.join("clip")),
        [
            "faces.jsonl",
            "summary.json",
            "thumbnails",
            "tracks.safetensors"
        ]
    );
    assert_eq!(
        fs::read_to_string(&events).expect("readable"),
        format!("{others}\n")
    );
    assert_eq!(mode(&events), 0o640, "who may read it is as it was");

    for stranger in ["Unknown", "uNKNOWN"] {
        let output = run(&mut world.forget(stranger, &[]));
        assert_code(&output, 1);
        assert!(stderr(&output).contains("gallery remove"));
    }

    // The results are still complete and valid, and there is nobody left to forget.
    let mut cluster = facepipe();
    assert_code(&run(cluster.arg("cluster").arg(&results)), 0);
    let output = run(&mut world.analyze(&old_gallery));
    assert_code(&output, 0);
    let said = stderr(&output);
    assert_eq!(said.matches("was analysed before").count(), 2, "{said}");
    let output = run(&mut world.forget("tOM", &[]));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("similar: \"Tom\""),
        "{}",
        stderr(&output)
    );
    let output = run(&mut world.forget(ANN, &[]));
    assert_code(&output, 1);
}

/// Strangers who got a name from their cluster are found through their rows in the gallery.
#[test]
fn what_was_enrolled_from_clusters_is_found() {
    let world = World::new();
    fs::remove_file(&world.gallery).expect("removable");
    let clip = world.folder.path().join("clip.mp4");
    let results = world.results();
    let photo = world.folder.path().join("tom.png");
    let mut command = analyze(&[&clip, &photo], &results);
    assert_code(&run(command.args(FAST).arg("--force")), 0);
    fs::remove_file(world.out.join("party.jsonl")).expect("removable");
    let mut cluster = facepipe();
    assert_code(&run(cluster.arg("cluster").arg(&results)), 0);
    let clusters = json(&results.join("clusters.json"));
    let first = &clusters["clusters"][0];
    assert_eq!(first["tracks"][0]["folder"], "clip");
    let mut command = facepipe();
    command.arg("enroll").arg("--from-clusters").arg(&results);
    command.arg("stranger-1=Eve").arg("-o").arg(&world.gallery);
    assert_code(&run(&mut command), 0);

    // This works for any path that leads to the results and to their clusters.
    let forget = || {
        let mut forget = facepipe();
        forget.current_dir(results.join("clip"));
        forget.args(["forget", "Eve", ".", "../../results/clusters.json"]);
        run(forget.arg(&world.gallery))
    };
    let gallery = fs::read(&world.gallery).expect("readable");
    let path = results.join("clip/summary.json");
    let mut summary = json(&path);
    let output = forget();
    assert_code(&output, 0);
    println!("{}", stdout(&output));
    let after = json(&path);
    assert_eq!(after["tracks"], Value::Array(vec![]));
    // Killed before the summary was replaced: only the summary still knows the tracks.
    let theirs = summary["tracks"].as_array().expect("tracks").iter();
    summary["removing"] = theirs.map(|track| track["track"].clone()).collect();
    fs::write(&path, summary.to_string()).expect("writable");
    fs::write(&world.gallery, gallery).expect("writable");
    let output = forget();
    assert_code(&output, 0);
    assert_eq!(json(&path), after);
    assert!(Gallery::read(&world.gallery).expect("a gallery").is_empty());
    let after = json(&results.join("clusters.json"));
    let tracks = after["clusters"].to_string();
    assert!(
        !tracks.contains("\"clip\"") && tracks.contains("\"tom\""),
        "{tracks}"
    );
    assert_eq!(names(&results.join("clusters")), ["stranger-2.png"]);
    assert_eq!(names(&results.join("clip/thumbnails")), [""; 0]);
    let (frames, tracks) = lines(&results, "clip");
    assert!(tracks.is_empty());
    assert!(frames.iter().all(|f| f["faces"] == Value::Array(vec![])));
    // The other cluster can still be named.
    let mut command = facepipe();
    command.arg("enroll").arg("--from-clusters").arg(&results);
    command.arg("stranger-2=Tom").arg("-o").arg(&world.gallery);
    assert_code(&run(&mut command), 0);
}

/// Files that cannot be edited are reported, and broken ones do not stop the rest.
#[test]
fn what_is_left_is_said() {
    // A name may be part of another one.
    let folder = people(&[("Ann", "single_face.jpg"), ("Ann B", "Tom_Hanks_54745.png")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let out = |name: &str| folder.path().join(name);
    fs::write(out("report.html"), "<td>Ann</td>").expect("writable");
    fs::write(out("other.html"), "<td>Annabel</td><td>Ann B</td>").expect("writable");
    let others = "{\"type\":\"frame\",\"frame\":0,\"faces\":[{\"track\":0,\"name\":\"Ann B\"}]}\n";
    fs::write(out("others.jsonl"), others).expect("writable");
    // A file that another process is writing, and a `facepipe live` that does not answer.
    fs::write(out(".party.jsonl.x1y2.part"), "{}\n").expect("writable");
    let note = fs::File::create(out(".facepipe-live-0.json")).expect("writable");
    note.try_lock().expect("nobody else has it");
    (&note)
        .write_all(br#"{"state":"/nowhere/at/all","pid":1}"#)
        .expect("writable");
    let broken = fs::read(out("g.safetensors")).expect("readable");
    fs::write(out("broken.safetensors"), &broken[..broken.len() - 9]).expect("writable");
    let mut forget = facepipe();
    let output = run(forget.arg("forget").arg("Ann").arg(folder.path()));
    assert_code(&output, 3);
    let said = stdout(&output);
    println!("{said}");
    for part in [
        "g.safetensors",
        "report.html",
        "people/Ann/single_face.jpg",
        "broken.safetensors",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let left = said.split_once("still contain").expect("a list").1;
    for part in ["/g.safetensors", "other.html", "others.jsonl", "Ann B"] {
        assert!(!left.contains(part), "{part} in {said}");
    }
    assert!(
        said.contains("pictures cannot be searched (1 picture there)"),
        "{said}"
    );
    let errors = stderr(&output);
    for part in [
        "broken.safetensors: ",
        "x1y2.part: another facepipe is writing it",
        "live-0.json: a running `facepipe live` may write the name again",
    ] {
        assert!(errors.contains(part), "no {part} in {errors}");
    }
    let gallery = Gallery::read(&out("g.safetensors")).expect("a gallery");
    assert_eq!(gallery.people(), ["Ann B"]);
    let text = fs::read_to_string(out("others.jsonl")).expect("readable");
    assert_eq!(text, others);
    // Once all of this is removed, nothing of her is left, even though Ann B is there.
    for name in [
        "report.html",
        "broken.safetensors",
        ".party.jsonl.x1y2.part",
    ] {
        fs::remove_file(out(name)).expect("removable");
    }
    fs::remove_dir_all(out("people/Ann")).expect("removable");
    drop(note);
    let event = "{\"type\":\"left\",\"name\":\"Ann\"}\n";
    fs::write(out("events.jsonl"), event).expect("writable");
    let mut forget = facepipe();
    let output = run(forget.arg("forget").arg("Ann").arg(folder.path()));
    assert_code(&output, 0);
    assert!(
        !stdout(&output).contains("still contain"),
        "{}",
        stdout(&output)
    );
}
