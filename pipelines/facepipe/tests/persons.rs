//! Who is the same person: names in different forms, and faces that are seen together.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{
    analyze, assert_code, copy, enroll, facepipe, lines, media, people, run, stderr, stdout,
};

/// Composed, as most keyboards write it, and decomposed, as macOS writes names of files.
const JOSE: [&str; 2] = ["Jos\u{e9}", "Jose\u{301}"];

fn gallery(command: &str, path: &Path, arguments: &[&str]) -> std::process::Output {
    let mut run_it = facepipe();
    run(run_it.args(["gallery", command]).arg(path).args(arguments))
}

fn people_of(path: &Path) -> Vec<String> {
    let gallery = face_gallery::Gallery::read(path).expect("a gallery");
    gallery.people().to_vec()
}

#[test]
fn a_name_in_two_unicode_forms_is_one_person() {
    let [composed, decomposed] = JOSE;
    let folder = people(&[
        (composed, "single_face.jpg"),
        (decomposed, "Tom_Hanks_54745.png"),
    ]);
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 0);
    let said = stderr(&output);
    assert_eq!(
        said.matches("another folder of \"José\"").count(),
        1,
        "{said}"
    );
    assert!(stdout(&output).contains("1 person"), "{}", stdout(&output));
    let path = folder.path().join("g.safetensors");
    assert_eq!(people_of(&path), [composed]);

    for name in JOSE {
        let photo = media("t1.jpg");
        let photo = photo.to_str().expect("UTF-8");
        let output = gallery("add", &path, &[name, photo, "--largest"]);
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            stderr(&output)
        );
        assert_eq!(people_of(&path), [composed]);
    }
    let output = gallery("list", &path, &[]);
    assert!(
        stdout(&output).contains("José: 3 images"),
        "{}",
        stdout(&output)
    );
    assert_code(&gallery("rename", &path, &[decomposed, "Pepe"]), 0);
    assert_code(&gallery("rename", &path, &["Pepe", decomposed]), 0);
    assert_eq!(people_of(&path), [composed]);
}

#[test]
fn forget_finds_a_name_in_both_unicode_forms() {
    for (enrolled, asked) in [(JOSE[1], JOSE[0]), (JOSE[0], JOSE[1])] {
        let folder = people(&[
            (enrolled, "single_face.jpg"),
            ("Tom", "Tom_Hanks_54745.png"),
        ]);
        assert_code(&run(&mut enroll(folder.path())), 0);
        let out = folder.path().join("out");
        fs::create_dir(&out).expect("writable");
        fs::rename(
            folder.path().join("g.safetensors"),
            out.join("g.safetensors"),
        )
        .expect("renamed");
        // As an earlier version or another program wrote it.
        for (file, name) in [("composed.jsonl", JOSE[0]), ("decomposed.jsonl", JOSE[1])] {
            let line = |track: u64, name: &str| {
                format!("{{\"type\":\"track\",\"track\":{track},\"name\":\"{name}\"}}\n")
            };
            fs::write(out.join(file), line(1, name) + &line(2, "Tom")).expect("writable");
            fs::write(out.join(file.replace("jsonl", "txt")), format!("by {name}"))
                .expect("writable");
        }
        fs::create_dir(out.join(JOSE[1])).expect("writable");
        copy("single_face.jpg", &out.join(JOSE[1]).join("1.jpg"));

        let output = run(facepipe().args(["forget", asked]).arg(&out));
        assert_code(&output, 3);
        assert_eq!(people_of(&out.join("g.safetensors")), ["Tom"]);
        for form in ["composed", "decomposed"] {
            let text = fs::read_to_string(out.join(form).with_extension("jsonl")).expect("there");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains("Tom"), "{text}");
            let told = stdout(&output) + &stderr(&output);
            assert!(told.contains(&format!("{form}.txt")), "{told}");
            assert!(told.contains("1.jpg"), "{told}");
        }
    }
}

/// A gallery of the rightmost woman of `multi_face.jpg`, called Ann, from one photo.
fn ann() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = media("multi_face.jpg");
    let results = folder.path().join("found");
    assert_code(&run(&mut analyze(&[&picture], &results)), 0);
    let (frames, _) = lines(&results, "multi_face");
    let boxes = frames[0]["faces"].as_array().expect("faces").iter();
    let boxes = boxes.map(|face| [0, 1, 2, 3].map(|i| face["box"][i].as_f64().expect("a number")));
    let [x, y, w, h] = boxes
        .max_by(|a, b| a[0].total_cmp(&b[0]))
        .expect("several faces");
    let whole = image::open(&picture).expect("a picture").into_rgb8();
    let photo = image::imageops::crop_imm(
        &whole,
        (x - 0.4 * w).max(0.0) as u32,
        (y - 0.4 * h).max(0.0) as u32,
        (1.8 * w) as u32,
        (1.8 * h) as u32,
    );
    let to = folder.path().join("people/Ann");
    fs::create_dir_all(&to).expect("writable");
    photo.to_image().save(to.join("1.png")).expect("writable");
    assert_code(&run(enroll(folder.path()).arg("--largest")), 0);
    let gallery = folder.path().join("g.safetensors");
    (folder, gallery)
}

/// The names on a frame, from left to right.
fn named(frame: &Value) -> Vec<String> {
    let mut faces = frame["faces"].as_array().expect("faces").clone();
    let x = |face: &Value| face["box"][0].as_f64().expect("a number");
    faces.sort_by(|a, b| x(a).total_cmp(&x(b)));
    let name = |face: &Value| face["name"].as_str().unwrap_or("-").to_owned();
    faces.iter().map(name).collect()
}

#[test]
fn of_two_women_who_could_be_ann_one_is() {
    let (folder, gallery) = ann();
    let picture = media("multi_face.jpg");
    for (number, smoothing) in ["track", "running", "none"].into_iter().enumerate() {
        let count = |options: &[&str]| {
            let results = folder.path().join(format!("{number}{}", options.len()));
            let mut command = analyze(&[&picture], &results);
            command.args(["--smoothing", smoothing]).args(options);
            assert_code(&run(command.arg("--gallery").arg(&gallery)), 0);
            let (frames, tracks) = lines(&results, "multi_face");
            let names = named(&frames[0]);
            let anns = names.iter().filter(|name| *name == "Ann").count();
            let tracks = tracks.iter().filter(|t| t["name"] == "Ann").count();
            assert_eq!(anns, tracks, "{smoothing}");
            (anns, names.last().cloned())
        };
        let ann = Some("Ann".to_owned());
        assert_eq!(count(&[]), (1, ann.clone()), "{smoothing}");
        let (anns, last) = count(&["--repeated-names"]);
        assert!(anns > 1 && last == ann, "{smoothing}: {anns}");
    }
}

#[test]
fn output_names_may_be_as_long_as_the_file_system_permits() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let write = |length: usize| {
        let name = "n".repeat(length - ".safetensors".len()) + ".safetensors";
        let path = folder.path().join(name);
        let mut command = facepipe();
        command.arg("enroll").arg(folder.path().join("people"));
        (run(command.arg("-o").arg(&path)), path)
    };
    let (output, path) = write(255);
    assert_code(&output, 0);
    assert!(path.is_file());
    let (output, _) = write(256);
    assert_code(&output, 1);
    let said = stderr(&output);
    assert_eq!(said.matches("too long").count(), 1, "{said}");
}
