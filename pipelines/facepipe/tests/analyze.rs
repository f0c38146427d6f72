//! `facepipe analyze` as its users run it, on real photos and videos.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{
    analyze, assert_code, cmyk_tiff, copy, enroll, lines, media, names, people, run, stderr, stdout,
};

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn summary(results: &Path, name: &str) -> Value {
    json(&results.join(name).join("summary.json"))
}

/// The tracks that have embeddings in `tracks.safetensors`, and the length of each embedding.
fn embedded(results: &Path, name: &str) -> (Vec<u64>, usize) {
    let bytes = fs::read(results.join(name).join("tracks.safetensors")).expect("written");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("valid");
    let metadata = header.metadata().as_ref().expect("metadata");
    assert_eq!(metadata["model"], "sface");
    assert_eq!(metadata["model-sha256"].len(), 64);
    let tracks: Vec<u64> = serde_json::from_str(&metadata["tracks"]).expect("JSON");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let tensor = file.tensor("embeddings").expect("there");
    assert_eq!(tensor.shape()[0], tracks.len());
    for row in tensor.data().chunks_exact(4 * tensor.shape()[1]) {
        let numbers = row.as_chunks::<4>().0.iter();
        let square: f32 = numbers.map(|b| f32::from_le_bytes(*b).powi(2)).sum();
        assert!((square - 1.0).abs() < 1e-4, "normalised: {square}");
    }
    (tracks, tensor.shape()[1])
}

/// A gallery of Ann, who is in `single_face.mp4`, and Tom, who is not.
fn ann_and_tom() -> (tempfile::TempDir, PathBuf) {
    let folder = people(&[("Ann", "single_face.jpg"), ("Tom", "Tom_Hanks_54745.png")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let gallery = folder.path().join("g.safetensors");
    (folder, gallery)
}

#[test]
fn a_folder_is_analysed_and_what_is_broken_does_not_stop_the_rest() {
    let (folder, gallery) = ann_and_tom();
    let films = folder.path().join("films");
    copy("single_face.mp4", &films.join("ann.mp4"));
    copy("multi_face.jpg", &films.join("more/band.jpg"));
    fs::write(films.join("broken.mp4"), "no video\n".repeat(99)).expect("writable");
    fs::write(films.join("readme.txt"), "no media").expect("writable");
    // Among the inputs, but not one of them.
    let results = films.join("results");
    let analyze = || {
        let mut command = analyze(&[&films], &results);
        command.arg("--gallery").arg(&gallery);
        command
    };

    let output = run(&mut analyze());
    assert_code(&output, 3);
    let said = stderr(&output);
    assert!(said.contains("skipped 1 .txt file"), "{said}");
    assert!(said.contains("broken.mp4: "), "{said}");
    assert!(stdout(&output).contains("Ann"), "{}", stdout(&output));
    assert_eq!(names(&results), ["ann", "band"]);
    let files = [
        "faces.jsonl",
        "summary.json",
        "thumbnails",
        "tracks.safetensors",
    ];
    assert_eq!(names(&results.join("ann")), files);

    let ann = summary(&results, "ann");
    assert_eq!((&ann["version"], &ann["frames"]), (&1.into(), &72.into()));
    assert_eq!((&ann["width"], &ann["height"]), (&640.into(), &360.into()));
    assert_eq!(ann["input"], films.join("ann.mp4").display().to_string());
    let duration = ann["duration_ns"].as_f64().expect("a number");
    assert!((duration / 1e9 - 2.4).abs() < 0.1, "{duration}");
    let person = &ann["people"][0];
    assert_eq!(person["name"], "Ann");
    assert!(
        person["share"].as_f64().expect("a number") > 0.9,
        "{person}"
    );
    assert!(
        person["age"].is_f64() && person["gender"] == "male",
        "{person}"
    );
    let track = &ann["tracks"][0];
    let thumbnail = track["thumbnail"].as_str().expect("a path");
    let picture = image::open(results.join("ann").join(thumbnail)).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (160, 160));
    let (frames, tracks) = lines(&results, "ann");
    assert_eq!((frames.len(), tracks.len()), (72, 1));
    assert_eq!(
        embedded(&results, "ann"),
        (vec![track["track"].as_u64().expect("an id")], 128)
    );

    let band = summary(&results, "band");
    assert_eq!(
        (&band["frames"], &band["duration_ns"]),
        (&1.into(), &0.into())
    );
    assert_eq!(band["tracks"].as_array().map(Vec::len), Some(5));
    assert_eq!(embedded(&results, "band").0.len(), 5);
    assert_eq!(names(&results.join("band/thumbnails")).len(), 5);

    // Finished inputs are skipped, and the broken one is tried again.
    let written = || fs::metadata(results.join("ann/summary.json")).and_then(|m| m.modified());
    let before = written().expect("written");
    let output = run(analyze().arg("--json"));
    assert_code(&output, 3);
    assert_eq!(stderr(&output).matches("was analysed before").count(), 2);
    assert_eq!(written().expect("written"), before);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    let states: Vec<_> = report
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| &r["state"])
        .collect();
    assert_eq!(states, ["done-before", "failed", "done-before"]);
    assert_eq!(report[0]["people"][0]["name"], "Ann");

    // Other options, a changed file, or --force: again.
    fs::remove_file(films.join("broken.mp4")).expect("there");
    let output = run(analyze().args(["--interval", "2"]));
    assert_code(&output, 0);
    assert_ne!(written().expect("written"), before);
    copy("mask_blue.jpg", &films.join("more/band.jpg"));
    let output = run(analyze().args(["--interval", "2"]));
    assert_code(&output, 0);
    assert_eq!(stderr(&output).matches("was analysed before").count(), 1);
    assert!(
        summary(&results, "band")["tracks"]
            .as_array()
            .expect("a list")
            .len()
            < 5
    );
    let output = run(analyze().args(["--interval", "2", "--force"]));
    assert_code(&output, 0);
    assert!(!stderr(&output).contains("was analysed before"));
    assert_eq!(names(&results), ["ann", "band"]);
}

#[test]
fn damaged_results_are_made_again_in_their_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let band = copy("multi_face.jpg", &folder.path().join("band.jpg"));
    let results = folder.path().join("results");
    let analyse = || {
        let output = run(&mut analyze(&[&band], &results));
        assert_code(&output, 0);
        assert_eq!(names(&results), ["band"]);
        stderr(&output)
    };
    analyse();
    assert!(analyse().contains("was analysed before"));
    let thumbnails = names(&results.join("band/thumbnails"));
    let thumbnail = format!("thumbnails/{}", thumbnails[0]);
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    for (name, left) in [
        ("faces.jsonl", None),
        ("tracks.safetensors", Some(cut)),
        (thumbnail.as_str(), Some(cut)),
        ("summary.json", Some(cut)),
    ] {
        let path = results.join("band").join(name);
        let whole = fs::read(&path).expect("written");
        match left {
            Some(cut) => fs::write(&path, cut(&whole)).expect("writable"),
            None => fs::remove_file(&path).expect("there"),
        }
        let said = analyse();
        assert!(!said.contains("was analysed before"), "{name}: {said}");
        // Without its summary, nobody knows what the other files belong to.
        let told = said.contains("analysed again") && said.contains(name);
        assert!(told || name == "summary.json", "{name}: {said}");
        assert_eq!(fs::read(&path).expect("there").len(), whole.len(), "{name}");
    }
    assert!(analyse().contains("was analysed before"));
}

#[test]
fn pictures_are_turned_upright_and_may_have_alpha() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let upright = image::open(media("single_face.jpg")).expect("a photo");
    // Stored sideways, with the EXIF orientation 6: turn by 90° clockwise to view.
    let path = folder.path().join("phone.jpg");
    upright
        .rotate270()
        .into_rgb8()
        .save(&path)
        .expect("writable");
    let jpeg = fs::read(&path).expect("just written");
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    fs::write(&path, turned).expect("writable");
    let alpha = folder.path().join("alpha.png");
    upright.to_rgba8().save(&alpha).expect("writable");

    let results = folder.path().join("out");
    assert_code(&run(&mut analyze(&[&path, &alpha], &results)), 0);
    for name in ["phone", "alpha"] {
        let summary = summary(&results, name);
        assert_eq!(
            (&summary["width"], &summary["height"]),
            (&upright.width().into(), &upright.height().into()),
            "{name}"
        );
        assert_eq!(
            summary["tracks"].as_array().map(Vec::len),
            Some(1),
            "{name}"
        );
        let (frames, _) = lines(&results, name);
        let eyes = &frames[0]["faces"][0]["landmarks"];
        let y = |i: usize| eyes[i][1].as_f64().expect("two eyes");
        assert!((y(0) - y(1)).abs() < 20.0, "level eyes: {eyes}");
    }
}

#[test]
fn a_video_without_faces_and_a_lack_of_inputs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("out");
    assert_code(&run(&mut analyze(&[&media("no_face.mp4")], &results)), 0);
    let empty = summary(&results, "no_face");
    assert_eq!(
        (&empty["people"], &empty["tracks"]),
        (&Value::Array(vec![]), &Value::Array(vec![]))
    );
    assert_eq!(embedded(&results, "no_face").0, [0u64; 0]);

    let missing = folder.path().join("missing.mp4");
    let output = run(&mut analyze(&[&missing], &results));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("missing.mp4 does not exist"),
        "{}",
        stderr(&output)
    );
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).expect("writable");
    assert_code(&run(&mut analyze(&[&nothing], &results)), 1);
    // Nobody to whom names could be restricted.
    let video = media("single_face.mp4");
    assert_code(
        &run(analyze(&[&video], &results).args(["--main-persons", "1"])),
        2,
    );
    // A missing model is not the input's fault.
    let output = run(analyze(&[&video], &results).args(["--detector", "nonesuch"]));
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(error.contains("--detector: no model `nonesuch`"), "{error}");
    assert!(error.contains("`yunet`"), "{error}");
}

/// The different values of a key among the faces of one track.
fn values(frames: &[Value], track: &Value, key: &str) -> Vec<String> {
    let faces = frames
        .iter()
        .flat_map(|f| f["faces"].as_array().expect("a list"));
    let mut values: Vec<String> = faces
        .filter(|f| &f["track"] == track)
        .map(|f| f[key].to_string())
        .collect();
    values.dedup();
    values
}

#[test]
fn whole_tracks_are_written_back_to_their_first_frame() {
    let (folder, gallery) = ann_and_tom();
    let video = media("single_face.mp4");
    let analyze = |smoothing: &str| {
        let results = folder.path().join(smoothing);
        let mut command = analyze(&[&video], &results);
        command.arg("--gallery").arg(&gallery);
        assert_code(&run(command.args(["--smoothing", smoothing])), 0);
        lines(&results, "single_face")
    };
    let (frames, tracks) = analyze("track");
    let id = &tracks[0]["track"];
    for key in ["name", "name_confidence", "age", "gender"] {
        assert_eq!(
            values(&frames, id, key),
            [tracks[0][key].to_string()],
            "{key}"
        );
    }
    let (running, same) = analyze("running");
    assert_eq!(same, tracks);
    let ages = values(&running, id, "age");
    assert!((2..10).contains(&ages.len()), "{ages:?}");
    assert_eq!(ages.last(), Some(&tracks[0]["age"].to_string()));
    let (single, same) = analyze("none");
    assert_eq!(same[0]["name"], tracks[0]["name"]);
    let ages = values(&single, id, "age");
    assert!(ages.len() > 30, "an age a frame: {ages:?}");
}

#[test]
fn ctrl_c_leaves_whole_results_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("out");
    let inputs = [media("single_face.jpg"), media("WolfgangLanger_Pexels.mp4")];
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let analyze = || {
        let mut command = analyze(&inputs, &results);
        command.args(["--jobs", "1", "--no-age-gender", "--interval", "4"]);
        command
    };
    let child = analyze()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let working = results.join(".WolfgangLanger_Pexels.part/faces.part");
    let begin = Instant::now();
    while fs::metadata(&working).map_or(0, |m| m.len()) == 0 {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "no second input"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupted.expect("kill runs").success());
    let output = child.wait_with_output().expect("ends");
    assert_code(&output, 130);
    assert_eq!(names(&results), ["single_face"]);
    assert!(results.join("single_face/summary.json").is_file());

    let output = run(&mut analyze());
    assert_code(&output, 0);
    assert_eq!(stderr(&output).matches("was analysed before").count(), 1);
    assert_eq!(names(&results), ["WolfgangLanger_Pexels", "single_face"]);
    assert_eq!(summary(&results, "WolfgangLanger_Pexels")["frames"], 472);
}

#[test]
fn motion_jpeg_over_http_is_a_video() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let door = crate::common::mjpeg::Camera::start(20);
    let output = run(&mut analyze(&[Path::new(&door.uri)], folder.path()));
    assert_code(&output, 0);
    let (frames, _) = lines(folder.path(), "mj");
    assert_eq!(frames.len(), 20);
    let times: Vec<_> = frames.iter().map(|frame| frame["pts"].as_u64()).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    let summary = summary(folder.path(), "mj");
    let seconds = summary["duration_ns"].as_f64().expect("a number") / 1e9;
    // Delays of the pictures depend on the machine.
    assert!(seconds > 0.3, "{seconds} s");
    assert!(
        summary["tracks"][0]["frames"].as_u64() > Some(10),
        "{summary}"
    );
}

#[test]
fn pictures_of_all_kinds_are_analysed_or_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).expect("writable");
    let photo = image::open(media("single_face.jpg")).expect("a photo");
    photo
        .to_rgb16()
        .save(pictures.join("deep.png"))
        .expect("writable");
    photo
        .to_luma8()
        .save(pictures.join("grey.tif"))
        .expect("writable");
    photo
        .to_rgba8()
        .save(pictures.join("alpha.webp"))
        .expect("writable");
    fs::write(pictures.join("print.tif"), cmyk_tiff(&photo)).expect("writable");
    let jpeg = fs::read(media("single_face.jpg")).expect("a photo");
    fs::write(pictures.join("sent.mp4"), &jpeg).expect("writable");
    fs::write(pictures.join("half.jpg"), &jpeg[..jpeg.len() / 2]).expect("writable");
    fs::write(pictures.join("phone.heic"), &b"\0\0\0\x18ftypheic"[..]).expect("writable");
    fs::write(pictures.join("raw.nef"), b"MM\0*").expect("writable");
    let results = folder.path().join("out");
    let output = run(&mut analyze(&[&pictures], &results));
    assert_code(&output, 3);
    let said = stderr(&output);
    assert!(said.contains("skipped 1 raw photo"), "{said}");
    assert!(
        said.contains("half.jpg cannot be read as a picture: the JPEG is cut short"),
        "{said}"
    );
    // Without libheif, what to install.
    assert!(
        said.contains("phone.heic cannot be read as a picture: "),
        "{said}"
    );
    assert!(said.contains("HEIC"), "{said}");
    assert_eq!(names(&results), ["alpha", "deep", "grey", "print", "sent"]);
    for name in ["alpha", "deep", "grey", "print", "sent"] {
        let tracks = summary(&results, name)["tracks"].as_array().map(Vec::len);
        assert_eq!(tracks, Some(1), "{name}");
    }
}
