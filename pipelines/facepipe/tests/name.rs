//! `facepipe name` and `facepipe names` as their users run them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use serde_json::Value;

use crate::common::{
    analyze, assert_code, copy, enroll, facepipe, lines, people, run, stderr, stdout,
};

const FAST: [&str; 3] = ["--no-age-gender", "--interval", "3"];

/// Ann is in `clip.mp4`, Tom on `tom.png`. The gallery has both.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// Analysed without a gallery.
    fn new() -> Self {
        let folder = people(&[("Ann", "single_face.jpg"), ("Tom", "Tom_Hanks_54745.png")]);
        assert_code(&run(&mut enroll(folder.path())), 0);
        copy("single_face.mp4", &folder.path().join("clip.mp4"));
        copy("Tom_Hanks_54745.png", &folder.path().join("tom.png"));
        let world = Self { folder };
        assert_code(&run(&mut world.analyze()), 0);
        world
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    fn gallery(&self) -> PathBuf {
        self.folder.path().join("g.safetensors")
    }

    fn analyze(&self) -> Command {
        let [clip, photo] = ["clip.mp4", "tom.png"].map(|name| self.folder.path().join(name));
        let mut command = analyze(&[&clip, &photo], &self.results());
        command.args(FAST);
        command
    }

    fn analyze_named(&self) -> Command {
        let mut command = self.analyze();
        command.arg("--gallery").arg(self.gallery());
        command
    }

    fn name(&self, options: &[&str]) -> Command {
        let mut command = facepipe();
        command.arg("name").arg(self.results()).args(options);
        command
    }

    fn named(&self) -> Command {
        let mut command = self.name(&["--json", "--gallery"]);
        command.arg(self.gallery());
        command
    }

    fn names(&self, options: &[&str]) -> Output {
        run(facepipe().arg("names").arg(self.results()).args(options))
    }

    fn summary(&self, name: &str) -> Value {
        json(&self.results().join(name).join("summary.json"))
    }

    /// The name and the person of the longest track, and the names of the faces.
    fn who(&self, name: &str) -> [String; 3] {
        let summary = self.summary(name);
        let tracks = summary["tracks"].as_array().expect("tracks");
        let frames = |track: &&Value| track["frames"].as_u64();
        let track = tracks.iter().max_by_key(frames).expect("a track");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let (frames, _) = lines(&self.results(), name);
        let faces = frames
            .iter()
            .flat_map(|f| f["faces"].as_array().expect("faces"));
        let mut names: Vec<String> = faces
            .filter(|face| face["track"] == track["track"])
            .map(|face| text(&face["name"]))
            .collect();
        names.dedup();
        [
            text(&track["name"]),
            text(&track["person"]),
            names.join(" "),
        ]
    }

    fn written(&self, path: &str) -> SystemTime {
        let metadata = fs::metadata(self.results().join(path)).expect("written");
        metadata.modified().expect("a time")
    }
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

fn changes(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_str(&stdout(output)).expect("JSON and nothing else");
    report["changes"].as_array().expect("changes").clone()
}

#[test]
fn names_follow_the_gallery_without_the_videos() {
    let world = World::new();
    let output = run(&mut world.name(&[]));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("--gallery"), "{}", stderr(&output));
    let pictures = world.written("clip/thumbnails");
    // No video is needed.
    let clip = world.folder.path().join("clip.mp4");
    let hidden = world.folder.path().join("hidden");
    fs::rename(&clip, &hidden).expect("there");

    let before = world.summary("clip");
    let output = run(world.named().arg("--dry-run"));
    assert_code(&output, 0);
    assert!(changes(&output).len() >= 2);
    assert_eq!(world.summary("clip"), before, "nothing is written");
    let output = run(&mut world.named());
    assert_code(&output, 0);
    let tom = changes(&output)
        .into_iter()
        .find(|change| change["folder"] == "tom");
    let tom = tom.expect("a change");
    assert_eq!((&tom["from"], &tom["to"]), (&Value::Null, &"Tom".into()));
    assert_eq!(world.who("clip"), ["Ann"; 3]);
    assert_eq!(world.who("tom"), ["Tom"; 3]);
    assert_eq!(world.summary("clip")["people"][0]["name"], "Ann");

    let lines = world.written("clip/faces.jsonl");
    let output = run(&mut world.named());
    assert_code(&output, 0);
    assert!(changes(&output).is_empty());
    assert_eq!(world.written("clip/faces.jsonl"), lines, "it is left alone");

    // An analysis has nothing left to do, and would give the same.
    fs::rename(&hidden, &clip).expect("there");
    let output = run(&mut world.analyze_named());
    assert_code(&output, 0);
    assert_eq!(stderr(&output).matches("was analysed before").count(), 2);
    assert!(
        !stderr(&output).contains("named again"),
        "{}",
        stderr(&output)
    );
    assert_eq!(world.written("clip/thumbnails"), pictures);
    let named = world.who("clip");
    assert_code(&run(world.analyze_named().arg("--force")), 0);
    assert_eq!(world.who("clip"), named);

    // If only the gallery has changed, an analysis names again.
    let pictures = world.written("clip/thumbnails");
    let output = run(facepipe()
        .args(["gallery", "rename"])
        .arg(world.gallery())
        .args(["Ann", "Zoë"]));
    assert_code(&output, 0);
    let output = run(&mut world.analyze_named());
    assert_code(&output, 0);
    assert!(
        stderr(&output).contains("named again"),
        "{}",
        stderr(&output)
    );
    assert_eq!(world.who("clip"), ["Zoë"; 3]);
    assert_eq!(world.written("clip/thumbnails"), pictures);
    // Without a gallery, nobody has a name.
    assert_code(&run(&mut world.analyze()), 0);
    let [name, person, faces] = world.who("clip");
    assert_eq!((&*name, &*faces), ("-", "-"));
    assert!(person.starts_with("stranger-"), "{person}");
}

#[test]
fn a_track_is_kept_from_a_name() {
    let world = World::new();
    assert_code(&run(&mut world.named()), 0);
    let id = world.summary("tom")["tracks"][0]["track"].to_string();
    let target = format!("tom/{id}=Tom");

    let output = run(&mut world.name(&["--not", &target, "--json"]));
    assert_code(&output, 0);
    assert_eq!(changes(&output).len(), 1);
    let is_kept = |after: &str| {
        let [name, person, faces] = world.who("tom");
        assert_eq!((&*name, &*faces), ("Unknown", "Unknown"), "{after}");
        assert!(person.starts_with("stranger-"), "{after}: {person}");
    };
    is_kept("name --not");
    let bars = world.results().join("names.json");
    let mode = fs::metadata(&bars).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_code(&run(&mut world.named()), 0);
    is_kept("name");
    let output = run(&mut world.analyze_named());
    assert_eq!(stderr(&output).matches("was analysed before").count(), 2);
    is_kept("analyze");
    assert_code(&run(world.analyze_named().arg("--force")), 0);
    is_kept("analyze --force");
    let output = run(&mut world.name(&["--barred"]));
    assert!(stdout(&output).contains("Tom"), "{}", stdout(&output));
    assert_eq!(world.who("clip"), ["Ann"; 3]);

    // A cluster of it cannot be enrolled by that name.
    assert_code(&run(facepipe().arg("cluster").arg(world.results())), 0);
    let clusters = json(&world.results().join("clusters.json"));
    let clusters = clusters["clusters"].as_array().expect("clusters");
    let of_tom = |cluster: &&Value| cluster["tracks"][0]["folder"] == "tom";
    let stranger = clusters.iter().find(of_tom).expect("Tom")["id"]
        .as_str()
        .expect("an id");
    let mut enroll = facepipe();
    enroll
        .args(["enroll", "--from-clusters"])
        .arg(world.results());
    let output = run(enroll
        .arg(format!("{stranger}=Tom"))
        .arg("-o")
        .arg(world.gallery()));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("--allow"), "{}", stderr(&output));

    let wrong = run(&mut world.name(&["--not", "tom/99=Tom"]));
    assert_code(&wrong, 1);
    assert!(stderr(&wrong).contains("no track 99"), "{}", stderr(&wrong));
    let wrong = run(&mut world.name(&["--not", "film/1=Tom"]));
    assert!(
        stderr(&wrong).contains("there are clip, tom"),
        "{}",
        stderr(&wrong)
    );

    assert_code(&run(&mut world.name(&["--allow", &target])), 0);
    assert_eq!(world.who("tom")[0], "Tom");
    assert!(!bars.exists());
    let again = run(&mut world.name(&["--allow", &target]));
    assert!(stderr(&again).contains("--barred"), "{}", stderr(&again));

    // By the number of a person, and forgotten with the person.
    let ann = "clip/Ann=Ann";
    assert_code(&run(&mut world.name(&["--not", ann])), 0);
    assert_eq!(world.who("clip")[0], "Unknown");
    let output = run(facepipe().args(["forget", "Ann"]).arg(world.results()));
    assert_code(&output, 0);
    assert!(!bars.exists());
}

#[test]
fn a_folder_that_is_given_twice_counts_once() {
    let world = World::new();
    let mut command = world.named();
    command
        .arg(world.results().join("."))
        .env("FACEPIPE_LOCK_TIMEOUT", "0");
    let output = run(&mut command);
    assert_code(&output, 0);
    let renamed: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    assert_eq!(renamed["inputs"], 2, "{renamed}");
    let list =
        |folders: &[PathBuf]| stdout(&run(facepipe().args(["names", "--csv"]).args(folders)));
    let once = list(&[world.results()]);
    assert_eq!(list(&[world.results(), world.results().join(".")]), once);
}

#[test]
fn appearances_are_listed() {
    let world = World::new();
    assert_code(&run(&mut world.named()), 0);
    let output = world.names(&["--json"]);
    assert_code(&output, 0);
    let found: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let ann = &found[0];
    assert_eq!(
        (&ann["person"], &ann["folder"]),
        (&"Ann".into(), &"clip".into())
    );
    assert_eq!(ann["first"], 0);
    assert!(ann["last"].as_u64().expect("a time") > 2_000_000_000);

    let text = stdout(&world.names(&[]));
    assert!(
        text.contains("0:00:00.000") && text.contains("Tom"),
        "{text}"
    );
    let text = stdout(&world.names(&["--csv", "--person", "Ann", "--named"]));
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert_eq!(
        rows[0],
        "person,named,results,film,input,first,last,seconds,tracks"
    );
    assert!(rows[1].starts_with("Ann,yes,"), "{text}");
    let nobody = world.names(&["--person", "Eve"]);
    assert_code(&nobody, 0);
    assert!(stdout(&nobody).contains("in none"), "{}", stdout(&nobody));
    let missing = run(facepipe().args(["names", "/nowhere"]));
    assert_code(&missing, 1);
}
