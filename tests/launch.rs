//! The documentation pages: runs every launch line with `gst-launch-1.0` and the built plugins, and
//! checks the links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use face_tests::{enroll, media, plugins, root};
use serde_json::Value;

const LINE: &str = "gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
    facerecognizer gallery=friends.safetensors ! faceagegender ! facemetajson ! filesink \
    location=faces.jsonl";

/// Runs a shell line in `folder` with the built plugins, and returns what it printed.
fn run(line: &str, folder: &Path) -> String {
    let output = Command::new("timeout")
        .args(["300", "sh", "-c", line])
        .current_dir(folder)
        .env("GST_PLUGIN_PATH", plugins())
        // A separate registry, so that the user's stays unchanged.
        .env("GST_REGISTRY", folder.join("registry.bin"))
        .output()
        .expect("sh runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{line}: {} {errors}",
        output.status
    );
    assert!(!errors.contains("CRITICAL"), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with the files that the pages' lines use.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (from, to) in [("single_face.mp4", "clip.mp4"), ("t1.jpg", "group.jpg")] {
        std::fs::copy(media(from), folder.path().join(to)).expect("copied");
    }
    enroll(&folder.path().join("friends.safetensors"));
    folder
}

/// The Markdown files below `folder`.
fn markdown_in(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            markdown_in(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// All pages with their text, by path: those of the top level and of docs/.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut paths = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    markdown_in(&root().join("docs"), &mut paths);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a page");
        (path.canonicalize().expect("it was read"), text)
    };
    paths.into_iter().map(read).collect()
}

/// The code blocks of a page, each with its language, and the text around them.
fn split(page: &str) -> (Vec<(String, String)>, String) {
    let (mut blocks, mut prose, mut block) = (Vec::new(), String::new(), None);
    for line in page.lines() {
        match (line.trim().strip_prefix("```"), &mut block) {
            (Some(language), None) => block = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(block.take()),
            (None, Some((_, code))) => *code += &format!("{line}\n"),
            (None, None) => prose += &format!("{line}\n"),
        }
    }
    assert!(block.is_none(), "a block of code has no end");
    (blocks, prose)
}

/// The launch lines of all pages, without duplicates.
fn launch_lines() -> BTreeSet<String> {
    let blocks = pages().into_values().flat_map(|page| split(&page).0);
    blocks
        .filter(|(language, code)| language == "sh" && code.contains("gst-launch-1.0"))
        .map(|(_, code)| code)
        .collect()
}

#[test]
fn the_pipelines_of_the_pages_work() {
    let folder = workplace();
    let lines = launch_lines();
    assert!(lines.len() >= 11, "{lines:#?}");
    for line in &lines {
        if line.contains("faceexpression") && !face_tests::has_optional("faceapi-expression") {
            continue;
        }
        // A test has no camera and no screen. A file replaces the one, fakesink the other.
        let line = line
            .replace(
                "rtspsrc location=rtsp://camera/stream latency=200",
                "filesrc location=clip.mp4",
            )
            .replace(
                "rtspsrc location=rtsp://camera/stream",
                "filesrc location=clip.mp4",
            )
            .replace("v4l2src device=/dev/video0", "filesrc location=clip.mp4")
            .replace("v4l2src device=/dev/video1", "filesrc location=clip.mp4")
            .replace("v4l2src", "filesrc location=clip.mp4")
            .replace("autovideosink", "fakesink");
        let printed = run(&line, folder.path());
        if line.contains("fdsink") {
            assert!(
                printed.contains("\"box\":["),
                "{line}: no face in {printed}"
            );
        }
    }
    for name in ["faces.png", "faces.jsonl", "faces.mp4", "anonymous.mp4"] {
        let size = std::fs::metadata(folder.path().join(name))
            .expect("written")
            .len();
        assert!(size > 1000, "{name}: {size} bytes");
    }
}

#[test]
fn the_launch_line_works_as_printed() {
    let folder = workplace();
    run(LINE, folder.path());
    let text = std::fs::read_to_string(folder.path().join("faces.jsonl")).expect("written");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("valid JSON"))
        .collect();
    let (frames, tracks): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l["type"] == "frame");
    assert_eq!((frames.len(), tracks.len()), (72, 1));
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(frame["frame"], i);
        let face = &frame["faces"][0];
        assert_eq!(
            (&face["name"], &face["track"]),
            (&"selfie".into(), &tracks[0]["track"])
        );
        assert_eq!(face["gender"], "male");
        assert!(
            face["age"]
                .as_f64()
                .is_some_and(|age| (15.0..60.0).contains(&age))
        );
    }
    assert_eq!(
        (&tracks[0]["name"], &tracks[0]["frames"]),
        (&"selfie".into(), &72.into())
    );
}

/// The targets of a page's links and pictures: the text between `](` and `)`.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    let targets = prose.split("](").skip(1);
    targets.filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(prose: &str) -> BTreeSet<String> {
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                '-' | '_' => Some(c),
                _ => c.is_alphanumeric().then_some(c),
            });
            kept.collect()
        })
        .collect()
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let pages = pages();
    let mut broken = Vec::new();
    let mut seen = 0;
    for (path, page) in &pages {
        let (_, prose) = split(page);
        for link in links(&prose).filter(|link| !link.contains("://")) {
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = path.parent().expect("a page lies in a folder");
            let target = match file {
                "" => Ok(path.clone()),
                file => folder.join(file).canonicalize(),
            };
            let leads = target.is_ok_and(|target| {
                let page = pages.get(&target);
                anchor.is_empty() || page.is_some_and(|p| anchors(&split(p).1).contains(anchor))
            });
            if !leads {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_readme_and_the_map_stay_short() {
    for (name, most) in [("README.md", 250), ("ARCHITECTURE.md", 150)] {
        let page = std::fs::read_to_string(root().join(name)).expect("a page");
        let lines = page.lines().count();
        assert!(
            lines <= most,
            "{name} has {lines} lines; move text to docs/"
        );
    }
}
