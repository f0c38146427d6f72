//! Tests faces that are not to be named.

use super::*;
use crate::common::analyze;

const TOM: &str = "Tom_Hanks_54745.png";

/// The name that the only face of a picture gets.
fn name(folder: &Folder, picture: &str, results: &str) -> Value {
    let results = folder.path(results);
    let mut command = analyze(&[&media(picture)], &results);
    command.arg("--gallery").arg(folder.file());
    assert_code(&run(&mut command), 0);
    let stem = picture.split('.').next().expect("a name");
    let summary = fs::read(results.join(stem).join("summary.json")).expect("written");
    let summary: Value = serde_json::from_slice(&summary).expect("JSON");
    let track = &summary["tracks"][0];
    let confidence = track["name_confidence"].as_f64().expect("a number");
    assert!((0.5..=1.0).contains(&confidence), "{track}");
    track["name"].clone()
}

#[test]
fn a_track_of_a_result_is_never_named_again() {
    let folder = Folder::of(&ANN_AND_TOM, &[]);
    assert_eq!(name(&folder, TOM, "first"), "Tom");
    let result = folder.path("first/Tom_Hanks_54745");
    let result = result.to_str().expect("UTF-8");
    let track = ["--stranger", "--result", result, "--track"];
    let none = folder.refuses("add", &[&track[..], &["999"]].concat());
    assert!(none.contains("no track 999"), "{none}");
    let summary = fs::read(folder.path("first/Tom_Hanks_54745/summary.json")).expect("written");
    let summary: Value = serde_json::from_slice(&summary).expect("JSON");
    let id = summary["tracks"][0]["track"].to_string();
    let report = folder.json("add", &[&track[..], &[&id]].concat(), 0);
    assert_eq!(report["used"], 1);
    let again = folder.refuses("add", &[&track[..], &[&id]].concat());
    assert!(again.contains("nothing to add"), "{again}");

    assert_eq!(name(&folder, TOM, "second"), "Unknown");
    assert_eq!(name(&folder, "0-f15-hao-ph.jpg", "second"), "Ann");

    let source = format!("Tom_Hanks_54745 track {id}");
    assert_eq!(folder.json("list", &[], 0)["strangers"], json!([source]));
    assert_eq!(folder.json("info", &[], 0)["strangers"], 1);
    let text = stdout(&folder.run("list", &[]));
    let expected = format!("\nnot to be named: 1 face\n  {source}\n");
    assert!(text.ends_with(&expected), "{text}");
    let wrong = folder.refuses("remove", &["--stranger", "x"]);
    assert!(wrong.contains("no stranger \"x\""), "{wrong}");
    assert_code(&folder.run("remove", &["--stranger", &source]), 0);
    assert_eq!(name(&folder, TOM, "third"), "Tom");
}

#[test]
fn photos_of_strangers_stay_through_all_changes() {
    let folder = Folder::of(&ANN_AND_TOM, &[]);
    let stranger = media_text("single_face.jpg");
    assert_code(&folder.run("add", &["--stranger", &stranger]), 0);
    let source = "stranger/single_face.jpg";
    let strangers = |file: &Path| {
        let gallery = Gallery::read(file).expect("a gallery");
        gallery.strangers().to_vec()
    };
    assert_eq!(strangers(&folder.file()), [source]);
    assert_code(&folder.run("rename", &["Ann", "Anna"]), 0);
    assert_code(&folder.run("remove", &["Tom"]), 0);
    assert_code(&folder.run("add", &["Bob", &media_text(TOM)]), 0);
    assert_eq!(strangers(&folder.file()), [source]);
    assert_eq!(folder.read().people(), ["Anna", "Bob"]);

    let other = Folder::of(&ANN_AND_TOM, &[]);
    let group = media_text("multi_face.jpg");
    let largest = ["--largest", "--stranger", &group, &stranger];
    assert_code(&other.run("add", &largest), 0);
    let all = folder.path("all.safetensors");
    let merged = other.run(
        "merge",
        &[
            folder.file().to_str().expect("UTF-8"),
            "-o",
            all.to_str().expect("UTF-8"),
        ],
    );
    assert_code(&merged, 0);
    // The photo that both have is there once.
    assert_eq!(strangers(&all), ["stranger/multi_face.jpg", source]);

    // Nobody is made nameless by mistake.
    let own = folder.run("add", &["--stranger", &media_text(TOM)]);
    assert_code(&own, 1);
    let said = stdout(&own) + &stderr(&own);
    assert!(said.contains("it is Bob's"), "{said}");
    assert_eq!(strangers(&folder.file()), [source]);
    // Two photos of one name can be told apart.
    let copy = folder.path("more/single_face.jpg");
    fs::create_dir_all(folder.path("more")).expect("writable");
    fs::copy(media("multi_face.jpg"), &copy).expect("writable");
    let copy = copy.to_str().expect("UTF-8");
    assert_code(&folder.run("add", &["--largest", "--stranger", copy]), 0);
    let both = [source, "stranger/single_face (2).jpg"];
    assert_eq!(strangers(&folder.file()), both);
    assert_code(&folder.run("remove", &["--stranger", both[1]]), 0);
    assert_eq!(strangers(&folder.file()), [source]);

    for wrong in [
        &["--stranger"][..],
        &["--stranger", "none.jpg"],
        &["--stranger", &stranger],
        &["--stranger", &stranger, "--result", ".", "--track", "1"],
    ] {
        folder.refuses("add", wrong);
    }
    for wrong in [&["--track", "1"][..], &["Ann"], &["--result", "."]] {
        assert_code(&folder.run("add", wrong), 2);
    }
}
