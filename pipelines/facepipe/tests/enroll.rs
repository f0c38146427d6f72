//! `facepipe enroll`, on real photos.

use std::fs;

use serde_json::Value;

use crate::common::{assert_code, cmyk_tiff, enroll, media, names, people, run, stderr, stdout};

#[test]
fn enroll_takes_good_photos_and_says_why_it_leaves_others_out() {
    let folder = people(&[
        ("Ann", "single_face.jpg"),
        ("Tom Hanks", "Tom_Hanks_54745.png"),
        ("band", "multi_face.jpg"),
        ("nobody", "free-mountain-vector-01.jpg"),
    ]);
    let text = folder.path().join("people/nobody/text.jpg");
    fs::write(text, "no image at all").expect("writable");
    fs::write(folder.path().join("people/Ann/.DS_Store"), "hidden").expect("writable");

    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 3);
    let table = stdout(&output);
    for line in [
        "person     images  faces used  left out",
        "Ann             1           1         0",
        "Tom Hanks       1           1         0",
        "band            1           0         1",
        "4 people        5           2         3",
        "  band/multi_face.jpg: 5 faces; --largest takes the largest",
        "  nobody/free-mountain-vector-01.jpg: no face found",
        "  nobody/text.jpg: no readable image",
    ] {
        assert!(table.contains(line), "{line:?} is not in\n{table}");
    }
    assert_eq!(names(folder.path()), ["g.safetensors", "people"]);

    let gallery =
        face_gallery::Gallery::read(&folder.path().join("g.safetensors")).expect("a gallery");
    assert_eq!(gallery.people(), ["Ann", "Tom Hanks"]);
    assert_eq!(gallery.rows()[1].source, "Tom Hanks/Tom_Hanks_54745.png");
    assert_eq!(
        (gallery.model.name.as_str(), gallery.dimensions()),
        ("sface", 128)
    );
}

#[test]
fn enroll_takes_the_largest_face_if_asked() {
    let folder = people(&[("band", "multi_face.jpg")]);
    assert_code(&run(&mut enroll(folder.path())), 1);
    assert_eq!(
        names(folder.path()),
        ["people"],
        "no usable face, no gallery"
    );

    let output = run(enroll(folder.path()).args(["--largest", "--json"]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    assert_eq!(report["used"], 1);
    assert_eq!(report["people"][0]["person"], "band");
    assert_eq!(report["left_out"], serde_json::json!([]));
}

#[test]
fn enroll_turns_photos_as_their_exif_data_says() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let upright = image::open(media("single_face.jpg")).expect("a photo");
    // Stored sideways, with the EXIF orientation 6: turn by 90° clockwise to view.
    let path = folder.path().join("people/Ann/phone.jpg");
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

    assert_code(&run(&mut enroll(folder.path())), 0);
    let gallery =
        face_gallery::Gallery::read(&folder.path().join("g.safetensors")).expect("a gallery");
    let distance = gallery.nearest(&gallery.embedding(0), 2)[1].distance;
    assert!(distance < 0.05, "the same face, upright: {distance}");
}

#[test]
fn enroll_says_which_photos_are_poor_and_takes_the_preset_for_photographs() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let sharp = image::open(media("single_face.jpg")).expect("a photo");
    let to = folder.path().join("people/Ann");
    sharp
        .blur(12.0)
        .save(to.join("blurred.png"))
        .expect("writable");
    let mut dark = sharp.to_rgb8();
    dark.iter_mut().for_each(|value| *value /= 8);
    dark.save(to.join("dark.png")).expect("writable");
    let output = run(enroll(folder.path()).args(["--json", "--detector", "accurate"]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    assert_eq!(
        report["used"], 3,
        "poor photos are enrolled all the same: {report}"
    );
    let said = |source: &str| {
        let remarks = report["remarks"].as_array().expect("a list");
        let mut about = remarks.iter().filter(|remark| remark["source"] == source);
        about
            .next()
            .map(|remark| remark["remark"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(said("Ann/single_face.jpg"), None, "{report}");
    for (source, word) in [("Ann/blurred.png", "blurred"), ("Ann/dark.png", "dark")] {
        let remark = said(source).unwrap_or_default();
        assert!(
            remark.starts_with("a poor photo: ") && remark.contains(word),
            "{report}"
        );
    }
}

#[test]
fn enroll_explains_the_layout_it_expects() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = folder.path().join("people");
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("does not exist"));
    fs::create_dir(&to).expect("writable");
    fs::copy(media("single_face.jpg"), to.join("ann.jpg")).expect("writable");
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("PEOPLE_DIR/Ann/photo.jpg"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_photo_that_lies_on_its_side_is_turned_and_the_report_says_so() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let upright = image::open(media("single_face.jpg")).expect("a photo");
    let to = folder.path().join("people/Ann");
    for (name, turned) in [
        ("by90.png", upright.rotate270()),
        ("by180.png", upright.rotate180()),
        ("by270.png", upright.rotate90()),
        ("deep.png", upright.to_rgb16().into()),
        ("alpha.png", upright.to_rgba8().into()),
    ] {
        turned.save(to.join(name)).expect("writable");
    }
    fs::write(to.join("print.tif"), cmyk_tiff(&upright)).expect("writable");
    let output = run(enroll(folder.path()).arg("--json"));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    let remarks = report["remarks"].as_array().expect("a list");
    let turned: Vec<_> = remarks
        .iter()
        .map(|r| (r["source"].as_str().expect("a text"), r["turned"].as_u64()))
        .collect();
    let expected = [
        ("Ann/by180.png", Some(180)),
        ("Ann/by270.png", Some(270)),
        ("Ann/by90.png", Some(90)),
    ];
    assert_eq!(turned, expected);
    let gallery =
        face_gallery::Gallery::read(&folder.path().join("g.safetensors")).expect("a gallery");
    let last = gallery.rows().len() - 1;
    assert_eq!(gallery.rows()[last].source, "Ann/single_face.jpg");
    for found in gallery.nearest(&gallery.embedding(last), 7) {
        assert!(found.distance < 0.05, "{}", found.distance);
    }
    let output = run(&mut enroll(folder.path()));
    let said = stdout(&output);
    assert!(said.contains("  Ann/by180.png: turned by 180°"), "{said}");
}

#[test]
fn what_lies_about_in_photo_folders_is_passed_over() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let people = folder.path().join("people");
    for (name, content) in [
        ("Ann/single_face.jpg.json", "{}"),
        ("Ann/IMG_1.AAE", "<plist/>"),
        ("Ann/ehthumbs.db", "x"),
        ("Ann/Thumbs.DB", "x"),
        ("Ann/notes.txt", "x"),
        ("Ann/IMG_1.MOV", "x"),
    ] {
        fs::write(people.join(name), content).expect("writable");
    }
    for thumbnail in [
        "Ann/@eaDir/single_face.jpg",
        "@eaDir/x",
        "$RECYCLE.BIN/Ann",
        "Ann/__MACOSX",
    ] {
        let to = people.join(thumbnail);
        fs::create_dir_all(&to).expect("writable");
        fs::copy(media("single_face.jpg"), to.join("thumb.jpg")).expect("writable");
    }
    // Contents tell what this is.
    fs::copy(
        media("15-f13-anc-ph.jpg"),
        people.join("Ann/photo.jpg_large"),
    )
    .expect("writable");
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 0);
    let said = stderr(&output);
    assert!(said.contains("skipped 1 .txt file, 1 video"), "{said}");
    let gallery =
        face_gallery::Gallery::read(&folder.path().join("g.safetensors")).expect("a gallery");
    let rows = gallery.rows();
    let sources: Vec<_> = rows.iter().map(|row| row.source.as_str()).collect();
    assert_eq!(sources, ["Ann/photo.jpg_large", "Ann/single_face.jpg"]);
}

#[test]
fn half_a_photo_is_not_enrolled() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let photo = fs::read(media("single_face.jpg")).expect("a photo");
    let ann = folder.path().join("people/Ann");
    for (name, bytes) in [
        ("half.jpg", &photo[..photo.len() * 6 / 10]),
        ("nearly.jpg", &photo[..photo.len() * 95 / 100]),
        ("empty.jpg", b""),
        ("page.jpg", b"<html>404</html>"),
    ] {
        fs::write(ann.join(name), bytes).expect("writable");
    }
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 3);
    let table = stdout(&output);
    for line in [
        "Ann            5           1         4",
        "Ann/empty.jpg: no readable image: the file is empty",
        "Ann/half.jpg: no readable image: the JPEG is cut short: its end is missing",
        "Ann/nearly.jpg: no readable image: the JPEG is cut short: its end is missing",
        "Ann/page.jpg: no readable image: it is a web page, not a picture",
    ] {
        assert!(table.contains(line), "{line:?} is not in\n{table}");
    }
}
