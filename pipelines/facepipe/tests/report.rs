//! `facepipe report` as its users run it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::html::Element;

use crate::common::{
    assert_code, ends_at_once, facepipe, make_node, media, names, run, stderr, stdout, wait_for,
};

const SECOND: u64 = 1_000_000_000;

fn report(results: &Path, page: &Path) -> Command {
    let mut command = facepipe();
    command.arg("report").arg(results).arg("-o").arg(page);
    command
}

/// Writes the results of one input, with a thumbnail for each track.
fn write(results: &Path, name: &str, summary: &Value) {
    let folder = results.join(name);
    fs::create_dir_all(folder.join("thumbnails")).expect("writable");
    for track in summary["tracks"].as_array().expect("tracks") {
        let id = track["track"].as_u64().expect("an id");
        // As hard to compress as a face.
        let face = image::RgbImage::from_fn(160, 160, |x, y| {
            let noise = (x * 7919 + y * 104_729 + id as u32 * 31).wrapping_mul(2_654_435_761) >> 28;
            image::Rgb([(x + noise) as u8, (y + noise) as u8, (id % 256) as u8])
        });
        face.save(folder.join(format!("thumbnails/{id}.jpg")))
            .expect("writable");
    }
    fs::write(folder.join("summary.json"), summary.to_string()).expect("writable");
}

fn summary(input: &str, duration: u64, people: Value, tracks: Value) -> Value {
    json!({
        "version": 1, "input": input, "fingerprint": "x", "width": 640, "height": 360,
        "frames": (duration / SECOND * 25).max(1), "duration_ns": duration, "people": people, "tracks": tracks,
    })
}

fn person(name: &str, tracks: &[u64], time: u64) -> Value {
    json!({
        "name": name, "screen_time_ns": time, "share": 0.25, "first_pts": 0, "last_pts": time,
        "tracks": tracks, "age": 31.4, "gender": "female", "gender_confidence": 0.97,
    })
}

fn track(id: u64, name: Option<&str>, spans: &[[u64; 2]]) -> Value {
    json!({
        "track": id, "first_pts": 0, "last_pts": 0, "frames": 10, "name": name, "age": 40.0,
        "gender": "male", "gender_confidence": 0.9,
        "screen_time_ns": spans.iter().map(|[a, b]| b - a).sum::<u64>(),
        "appearances": spans, "thumbnail": format!("thumbnails/{id}.jpg"),
    })
}

/// A film with Ann and a stranger, and a picture with the stranger.
fn two_inputs() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let film = media("WolfgangLanger_Pexels.mp4")
        .canonicalize()
        .expect("there");
    let tracks = json!([
        track(
            1,
            Some("Ann"),
            &[[0, 5 * SECOND], [8 * SECOND, 10 * SECOND]]
        ),
        track(2, Some("Unknown"), &[[2 * SECOND, 4 * SECOND]]),
    ]);
    let people = json!([person("Ann", &[1], 7 * SECOND)]);
    let film = summary(&film.display().to_string(), 20 * SECOND, people, tracks);
    write(&folder.path().join("out"), "film", &film);
    let picture = media("single_face.jpg").canonicalize().expect("there");
    let tracks = json!([track(1, None, &[[0, 0]])]);
    let picture = summary(&picture.display().to_string(), 0, json!([]), tracks);
    write(&folder.path().join("out"), "picture", &picture);
    folder
}

/// Says that Ann and the stranger were together. Strangers up to the number `shared` are grouped.
fn together(results: &Path, shared: u64) {
    let path = results.join("film/summary.json");
    let text = fs::read_to_string(&path).expect("there");
    let mut film: Value = serde_json::from_str(&text).expect("JSON");
    film["tracks"][0]["person"] = "Ann".into();
    film["tracks"][1]["person"] = "stranger-1".into();
    film["shared_strangers"] = shared.into();
    film["together"] = json!([{
        "people": ["Ann", "stranger-1"], "time_ns": 2 * SECOND, "first": 2 * SECOND, "last": 4 * SECOND,
    }]);
    fs::write(&path, film.to_string()).expect("writable");
}

#[test]
fn who_was_with_whom_is_a_graph_and_a_table() {
    let folder = two_inputs();
    let (results, page) = (folder.path().join("out"), folder.path().join("report.html"));
    together(&results, 0);
    assert_code(&run(&mut report(&results, &page)), 0);
    let shown = Page::read(&page);
    shown.check();
    assert_eq!(shown.texts("#input-1 .company text"), ["Ann", "stranger-1"]);
    let label = &shown.attributes("#input-1 .company", "aria-label")[0];
    assert!(label.contains("Ann and stranger-1: 00:02"), "{label}");
    assert_eq!(
        shown.texts("#input-1 .pairs td"),
        ["00:02", "00:02", "00:04"]
    );
    assert!(shown.all("#people .company").is_empty(), "in one film only");

    // Once strangers are grouped, they are the same people in all inputs.
    together(&results, 1);
    assert_code(&run(&mut report(&results, &page)), 0);
    let shown = Page::read(&page);
    shown.check();
    assert_eq!(shown.texts("#people .company text").len(), 2);
    assert_eq!(shown.all("#people .pairs a").len(), 1);
    assert_eq!(shown.all(".company image").len(), 4);
}

#[test]
fn a_pipe_without_a_reader_is_waited_for_until_a_signal() {
    let folder = two_inputs();
    let pipe = folder.path().join("pipe");
    assert!(make_node(&pipe, libc::S_IFIFO, 0));
    let results = folder.path().join("out");
    let mut process = report(&results, &pipe);
    let mut process = process.stderr(Stdio::piped()).spawn().expect("starts");
    wait_for(&mut process, "waiting for a reader of");
    ends_at_once(process);
    let kind = fs::symlink_metadata(&pipe).expect("there").file_type();
    assert!(kind.is_fifo());
    let output = run(&mut report(&results, Path::new("-")));
    assert_code(&output, 0);
    assert!(stdout(&output).contains("<!DOCTYPE html>"));
}

fn cluster(results: &Path, id: &str, tracks: &[(&str, u64)]) {
    let tracks: Vec<Value> = tracks
        .iter()
        .map(|(folder, track)| json!({"folder": folder, "track": track}))
        .collect();
    let clusters = json!({"version": 1, "clusters": [
        {"id": id, "tracks": tracks, "screen_time_ns": 2 * SECOND, "sheet": "clusters/1.png"}
    ]});
    fs::write(results.join("clusters.json"), clusters.to_string()).expect("writable");
}

struct Page {
    text: String,
    elements: Vec<Element>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("written");
        let elements = crate::html::parse(&text);
        Self { text, elements }
    }

    fn all(&self, selector: &str) -> Vec<&Element> {
        crate::html::select(&self.elements, selector)
    }

    fn texts(&self, selector: &str) -> Vec<String> {
        let elements = self.all(selector).into_iter();
        elements.map(|e| e.text.clone()).collect()
    }

    fn attributes(&self, selector: &str, name: &str) -> Vec<String> {
        let elements = self.all(selector).into_iter();
        elements
            .filter_map(|e| e.attr(name).map(String::from))
            .collect()
    }

    /// The data of the timelines.
    fn data(&self) -> Vec<Value> {
        let json = |text: String| serde_json::from_str(&text).expect("JSON");
        let texts = self.texts("script.data");
        texts.into_iter().map(json).collect()
    }

    /// Checks what holds for any page: it is complete, needs no network, and every reference leads
    /// somewhere.
    fn check(&self) {
        assert_eq!(self.attributes("html", "lang"), ["en"]);
        assert_eq!(self.all("h1").len(), 1);
        assert_eq!(self.all("table").len(), self.all("table caption").len());
        for tag in ["link", "iframe", "object", "embed", "base", "form"] {
            assert!(self.all(tag).is_empty(), "{tag}");
        }
        let scripts = self.all("script").len() - self.all("script[type]").len();
        assert_eq!(scripts, 1, "only its own");
        let policy = self.attributes("meta[http-equiv=Content-Security-Policy]", "content");
        assert!(policy[0].starts_with("default-src 'none'; script-src 'sha256-"));
        assert!(!policy[0].contains("unsafe"));
        let mut ids = self.attributes("[id]", "id");
        for target in ["aria-labelledby", "data-copy"] {
            for id in self.attributes(&format!("[{target}]"), target) {
                assert!(ids.contains(&id), "{id}");
            }
        }
        for link in self.attributes("a", "href") {
            let known = link.strip_prefix('#').map(|id| ids.iter().any(|i| i == id));
            assert_ne!(known, Some(false), "{link}");
        }
        for source in self.attributes("[src]", "src") {
            let network = source.starts_with("//") || source.contains("http");
            assert!(!network, "{source}");
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "ids are unique");
        for (name, _) in self.elements.iter().flat_map(|e| &e.attributes) {
            assert!(!name.starts_with("on"), "no code in attributes: {name}");
        }
        // Each table of a video has one row per line of its timeline.
        let rows: usize = self
            .data()
            .iter()
            .map(|data| data["rows"].as_array().expect("rows").len())
            .sum();
        let pairs = self.all(".input .pairs tr").len();
        assert_eq!(self.all(".input tbody tr").len() - pairs, rows);
        // Each line of a graph has a row, too.
        assert_eq!(self.all(".company path").len(), self.all(".pairs tr").len());
    }
}

#[test]
fn who_is_on_screen_when_and_how_unknown_people_are_named() {
    let folder = two_inputs();
    let (results, page) = (folder.path().join("out"), folder.path().join("report.html"));
    let output = run(&mut report(&results, &page));
    assert_code(&output, 0);
    let written = format!("wrote {}: 2 inputs, 1 person", page.display());
    assert!(stderr(&output).contains(&written), "{}", stderr(&output));

    let first = Page::read(&page);
    first.check();
    assert_eq!(first.texts("h1"), ["Faces in out"]);
    assert_eq!(first.texts("#people tbody th"), ["Ann"]);
    assert_eq!(
        first.texts("#input-1 tbody th"),
        ["Ann", "track 2, unknown"]
    );
    let cells = [
        "–",
        "00:07",
        "25.0 %",
        "00:00",
        "00:10",
        "1",
        "31",
        "female (97 %)",
    ];
    assert_eq!(first.texts("#input-1 tbody td")[..8], cells);
    let expected = json!([{"duration": 20_000, "rows": [[0, 5000, 8000, 10_000], [2000, 4000]]}]);
    assert_eq!(json!(first.data()), expected);
    // The video is found relative to the page.
    let source = &first.attributes("#input-1 source", "src")[0];
    assert!(!source.contains(':'), "relative: {source}");
    assert!(folder.path().join(source).is_file(), "{source}");
    let source = &first.attributes("#input-2 .picture img", "src")[0];
    assert!(folder.path().join(source).is_file(), "{source}");
    assert_eq!(first.texts("#input-2 .faces bdi"), ["Unknown"]);
    let faces = first.attributes("img.face", "src");
    assert_eq!(faces.len(), 4);
    assert!(
        faces
            .iter()
            .all(|f| f.starts_with("data:image/jpeg;base64,"))
    );
    let command = format!("facepipe cluster {}", results.display());
    assert_eq!(first.texts("#unknown .command code"), [command]);

    cluster(&results, "stranger-1", &[("film", 2), ("picture", 1)]);
    assert_code(&run(&mut report(&results, &page)), 0);
    let second = Page::read(&page);
    second.check();
    assert_eq!(second.texts("#people tbody th"), ["Ann", "stranger-1"]);
    assert_eq!(second.texts("#input-1 tbody th"), ["Ann", "stranger-1"]);
    assert_eq!(second.texts("#unknown h3"), ["stranger-1"]);
    let command = format!(
        "facepipe enroll --from-clusters {} stranger-1=NAME -o GALLERY",
        results.display()
    );
    assert_eq!(second.texts("#unknown .command code"), [command]);
    assert_eq!(names(folder.path()), ["out", "report.html"]);
}

#[test]
fn hostile_names_are_only_text() {
    let hostile = [
        "<script>alert(1)</script>",
        "</script><img src=x onerror=alert(1)>",
        "\"><b onclick='x'>&amp;",
        "two\nlines",
        "\u{202e}gnihtyna \u{2066}",
        "👩‍👩‍👧 李雷 أحمد",
        "{{ title }}{% endfor %}",
        "",
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("<b> & 'out' $(id)");
    let people: Vec<Value> = (1..)
        .zip(hostile)
        .map(|(id, name)| person(name, &[id], (20 - id) * SECOND))
        .collect();
    let mut tracks: Vec<Value> = (1..)
        .zip(hostile)
        .map(|(id, name)| track(id, Some(name), &[[0, id * SECOND]]))
        .collect();
    tracks.push(track(99, None, &[[0, SECOND]]));
    let input = "/films/\"><script>alert(1)</script>\n.mp4";
    let film = summary(input, 20 * SECOND, people.into(), tracks.into());
    write(&results, "film", &film);
    let stream = "rtsp://ann:secret@cam/'\"<i>?token=secret";
    let film = summary(stream, 20 * SECOND, json!([]), json!([]));
    write(&results, "live", &film);
    cluster(&results, "<i>'$(id)", &[("film", 99)]);

    let page = folder.path().join("report.html");
    assert_code(&run(&mut report(&results, &page)), 0);
    let page = Page::read(&page);
    page.check();
    let mut expected: Vec<&str> = hostile.to_vec();
    expected.push("<i>'$(id)");
    assert_eq!(page.texts("#input-1 tbody th"), expected);
    for selector in ["b", "i", "img[src=x]"] {
        assert!(page.all(selector).is_empty(), "{selector}");
    }
    assert_eq!(page.texts("#input-2 h2"), ["'\"<i>"]);
    assert!(!page.text.contains("secret"), "no password of a stream");

    // A shell splits the command as intended.
    let command = page.texts("#unknown .command code").remove(0);
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("facepipe() {{ printf '%s|' \"$@\"; }}; {command}"))
        .output()
        .expect("a shell");
    let words = format!(
        "enroll|--from-clusters|{}|<i>'$(id)=NAME|-o|GALLERY|",
        results.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), words);
}

/// A hundred people in two hours, with a hundred tracks each. Thirty of them are unknown.
fn long_film(results: &Path) {
    let (mut people, mut tracks, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..100u64 {
        let ids: Vec<u64> = (1..=100).map(|i| 100 * number + i).collect();
        let name = (number < 70).then(|| format!("Person {number}"));
        for id in &ids {
            let begin = (id * 7919 % 7000) * SECOND;
            let length = (1 + id % 17) * SECOND;
            let spans = [
                [begin, begin + length],
                [begin + 20 * SECOND, begin + 30 * SECOND],
            ];
            tracks.push(track(*id, name.as_deref(), &spans));
        }
        match name {
            Some(name) => people.push(person(&name, &ids, (200 - number) * SECOND)),
            None => clusters.push(json!({
                "id": format!("stranger-{}", number - 69), "screen_time_ns": SECOND, "sheet": "",
                "tracks": ids.iter().map(|id| json!({"folder": "film", "track": id})).collect::<Vec<_>>(),
            })),
        }
    }
    let mut film = summary(
        "/films/film.mp4",
        7200 * SECOND,
        people.into(),
        tracks.into(),
    );
    let tracks = film["tracks"].take();
    // One thumbnail in each hundred is enough.
    let mut tracks = tracks.as_array().expect("tracks").clone();
    for (i, track) in tracks.iter_mut().enumerate() {
        if i % 100 > 0 {
            track["thumbnail"] = Value::Null;
        }
    }
    film["tracks"] = json!(tracks.iter().step_by(100).collect::<Vec<_>>());
    write(results, "film", &film);
    film["tracks"] = tracks.into();
    fs::write(results.join("film/summary.json"), film.to_string()).expect("writable");
    let clusters = json!({"version": 1, "clusters": clusters});
    fs::write(results.join("clusters.json"), clusters.to_string()).expect("writable");
}

#[test]
fn a_hundred_people_in_two_hours_make_a_small_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (results, page) = (folder.path().join("out"), folder.path().join("report.html"));
    long_film(&results);
    let started = Instant::now();
    assert_code(&run(&mut report(&results, &page)), 0);
    println!("made in {:.2} s", started.elapsed().as_secs_f64());
    browse(&page);
    let page = Page::read(&page);
    page.check();
    assert_eq!(page.all("#input-1 tbody tr").len(), 100);
    assert_eq!(page.all("#unknown .command").len(), 30);
    println!("{:.2} MB", page.text.len() as f64 / 1e6);
    assert!(page.text.len() < 2_000_000, "{}", page.text.len());
}

#[test]
fn a_browser_plays_the_video_beside_the_timeline() {
    let folder = two_inputs();
    let (results, page) = (folder.path().join("out"), folder.path().join("report.html"));
    cluster(&results, "stranger-1", &[("film", 2)]);
    together(&results, 1);
    assert_code(&run(&mut report(&results, &page)), 0);
    browse(&page);
}

/// Uses the page in a browser, if there is one.
fn browse(page: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report_browser.py");
    let Ok(output) = Command::new("python3").arg(script).arg(page).output() else {
        println!("SKIPPED: the page was not tried in a browser, as there is no python3");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => println!("{text}"),
        Some(77) => {
            println!("SKIPPED: the page was not tried in a browser, as no Chromium is on the PATH")
        }
        _ => panic!("{text}{}", stderr(&output)),
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = two_inputs();
    let (results, page) = (folder.path().join("out"), folder.path().join("report.html"));
    let fails = |results: PathBuf, reason: &str| {
        let output = run(&mut report(&results, &page));
        assert_code(&output, 1);
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
        assert!(!page.exists());
    };
    fails(folder.path().join("gone"), "there is no folder");
    fails(results.join("film/summary.json"), "is not a folder");
    fails(results.join("film"), "has no results");
    let output = run(&mut report(
        &results,
        &folder.path().join("none/report.html"),
    ));
    assert_code(&output, 1);

    // One broken input does not stop the rest.
    fs::write(results.join("film/summary.json"), "{\"version\":").expect("writable");
    fs::write(results.join("clusters.json"), "[]").expect("writable");
    fs::write(results.join("picture/thumbnails/1.jpg"), "no picture").expect("writable");
    let output = run(&mut report(&results, &page));
    assert_code(&output, 3);
    for reason in ["film/summary.json", "clusters.json", "thumbnails/1.jpg"] {
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
    let page = Page::read(&page);
    page.check();
    assert_eq!(page.texts("h2 bdi"), ["single_face.jpg"]);
    assert_eq!(page.all(".problems li").len(), 3, "also on the page");

    let newer = fs::read_to_string(results.join("picture/summary.json")).expect("readable");
    let newer = newer.replace("\"version\":1", "\"version\":2");
    fs::write(results.join("picture/summary.json"), newer).expect("writable");
    fs::remove_file(folder.path().join("report.html")).expect("there");
    let output = run(&mut report(&results, &folder.path().join("report.html")));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("no results that can be read"));
}
