//! `facepipe gallery convert`, and galleries that meet another model.

use face_tests::made;
use face_tests::refusal::Models;

use super::*;

/// A folder of photos with a gallery of SFace, and a recogniser of 512 numbers.
fn folder() -> (Folder, Models, String) {
    let folder = Folder::of(&ANN_AND_TOM, &["--augment", "2"]);
    let models = Models::default();
    let path = models.written("net", &made::like_facenet("net"), &made::facenet_graph());
    (folder, models, path)
}

/// The folder of the photos.
fn photos(folder: &Folder) -> String {
    folder.path("people").to_str().expect("UTF-8").to_owned()
}

fn convert(folder: &Folder, args: &[&str]) -> Output {
    folder.run("convert", &[&[&*photos(folder)], args].concat())
}

#[test]
fn a_converted_gallery_is_the_one_that_enroll_would_make() {
    let (folder, _models, model) = folder();
    let (new, other) = (folder.path("new.safetensors"), folder.path("o.safetensors"));
    let output = convert(
        &folder,
        &[
            "--model",
            &model,
            "-o",
            new.to_str().expect("UTF-8"),
            "--json",
        ],
    );
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&report["used"], &report["rows"]), (&json!(2), &json!(6)));
    assert_eq!(report["model"], "net");
    assert_eq!(mode(&new), 0o600);

    let enrolled = run(facepipe()
        .arg("enroll")
        .arg(folder.path("people"))
        .args(["--augment", "2", "--model", &model, "-o"])
        .arg(&other));
    assert_code(&enrolled, 0);
    let (new, other) = (Gallery::read(&new), Gallery::read(&other));
    let (new, other) = (new.expect("a gallery"), other.expect("a gallery"));
    assert_eq!(new, other, "bit by bit");
    assert_eq!((new.dimensions(), &*new.model.name), (512, "net"));
    let old = folder.read();
    assert_eq!(new.rows(), old.rows(), "the same names and sources");

    // And back again, in place.
    let file = folder.path("new.safetensors");
    let target = file.to_str().expect("UTF-8");
    let back = gallery(
        "convert",
        &file,
        &[&photos(&folder), "--model", "sface", "-o", target],
    );
    assert_code(&back, 0);
    assert_eq!(Gallery::read(&file).expect("a gallery"), old);
}

#[test]
fn missing_photos_are_listed_and_the_others_converted() {
    let (folder, _models, model) = folder();
    assert_code(&folder.run("rename", &["Tom", "Thomas"]), 0);
    fs::remove_file(folder.path("people/Ann/0-f15-hao-ph.jpg")).expect("there");
    let new = folder.path("new.safetensors");
    let target = new.to_str().expect("UTF-8");
    let output = convert(&folder, &["--model", &model, "-o", target]);
    assert_code(&output, 3);
    let text = stdout(&output);
    assert!(
        text.contains("Ann/0-f15-hao-ph.jpg: no such photo in"),
        "{text}"
    );
    let new = Gallery::read(&new).expect("a gallery");
    assert_eq!(new.people(), ["Thomas"]);
    assert_eq!(new.row(0).source, "Tom/Tom_Hanks_54745.png");
    assert_eq!(new.len(), 3);

    fs::remove_file(folder.path("people/Tom/Tom_Hanks_54745.png")).expect("there");
    let photos = photos(&folder);
    let error = folder.refuses("convert", &[&photos, "--model", &model, "-o", target]);
    assert!(
        error.contains("has none of the gallery's 2 photos"),
        "{error}"
    );
    let error = folder.refuses(
        "convert",
        &[&photos, "--model", &model, "-o", target, "--augment", "1"],
    );
    assert!(error.contains("--augment"), "{error}");
    let error = folder.refuses("convert", &[&photos, "--model", "no-such", "-o", target]);
    assert!(error.contains("no model `no-such`"), "{error}");
}

#[test]
fn every_command_says_that_a_gallery_is_of_another_model() {
    let (folder, _models, model) = folder();
    let file = folder.file();
    let file = file.to_str().expect("UTF-8");
    let clip = media_text("single_face.mp4");
    let out = folder.path("out");
    let out = out.to_str().expect("UTF-8");
    let says_so = |output: &Output| {
        let text = stderr(output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in ["`sface`", "`net`", "cannot be compared", "gallery convert"] {
            assert!(text.contains(part), "no {part:?} in: {text}");
        }
    };
    let photo = media_text("single_face.jpg");
    says_so(&folder.run("add", &["Eve", &photo, "--model", &model]));
    let movie = folder.path("out.mp4");
    let movie = movie.to_str().expect("UTF-8");
    for command in [
        &["analyze", &clip, "-o", out][..],
        &["annotate", &clip, "-o", movie][..],
        &["bench", &clip][..],
    ] {
        says_so(&run(facepipe().args(command).args([
            "--gallery",
            file,
            "--model",
            &model,
        ])));
    }
}
