//! Pose and quality of real faces, and faces that are not good enough for a name.

use face_meta::{Face, Pose};
use face_tests::feed::{self, Feed};
use face_tests::{Picture, run_picture};

fn turned(picture: &Picture, turn: fn(&image::RgbImage) -> image::RgbImage) -> Picture {
    let image = image::RgbImage::from_raw(picture.width, picture.height, picture.data.clone());
    let image = turn(&image.expect("data of this size"));
    Picture {
        width: image.width(),
        height: image.height(),
        data: image.into_raw(),
    }
}

/// The faces from left to right.
fn faces(picture: &Picture, elements: &str) -> Vec<Face> {
    let mut faces = run_picture(picture, elements).expect("passes").faces;
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    faces
}

fn poses(picture: &Picture) -> Vec<Pose> {
    let faces = faces(picture, "facedetector");
    let poses = faces.iter().map(|face| face.pose.expect("a face"));
    poses.collect()
}

#[test]
fn a_mirrored_picture_has_the_opposite_yaw_and_roll() {
    let group = Picture::open("t1.jpg");
    let before = poses(&group);
    let mut mirrored = poses(&turned(&group, image::imageops::flip_horizontal));
    mirrored.reverse();
    assert_eq!((before.len(), mirrored.len()), (6, 6));
    let spread = before.iter().map(|pose| pose.yaw.abs()).fold(0.0, f64::max);
    assert!(spread > 10.0, "somebody looks aside: {before:?}");
    for (before, mirrored) in before.iter().zip(&mirrored) {
        // The detector does not find the same places in a mirrored picture.
        for (a, b) in [
            (before.yaw, -mirrored.yaw),
            (before.pitch, mirrored.pitch),
            (before.roll, -mirrored.roll),
        ] {
            assert!((a - b).abs() < 8.0, "{before:?} {mirrored:?}");
        }
    }
}

/// The pixels of stretched frames are not square, but poses are of the head.
#[test]
fn the_shape_of_pixels_does_not_change_a_pose() {
    let group = Picture::open("t1.jpg");
    let narrow = group.resized(group.width / 2, group.height);
    let caps = format!(
        "capssetter caps=video/x-raw,pixel-aspect-ratio=2/1 ! facedetector inference-size={}",
        group.width
    );
    let expected = faces(&group, "facedetector inference-size=0");
    let found = faces(&narrow, &caps);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let (found, expected) = (found.pose.expect("one"), expected.pose.expect("one"));
        assert!(
            (found.yaw - expected.yaw).abs() < 10.0,
            "{found:?} {expected:?}"
        );
        assert!(
            (found.roll - expected.roll).abs() < 8.0,
            "{found:?} {expected:?}"
        );
    }
}

const NAMED: &str = "facedetector ! facerecognizer";

#[test]
fn blur_and_darkness_are_measured() {
    let sharp = Picture::open("single_face.jpg");
    let (w, h) = (sharp.width, sharp.height);
    let blurred = sharp.resized(w / 12, h / 12).resized(w, h);
    let mut dark = sharp.clone();
    dark.data.iter_mut().for_each(|value| *value /= 4);
    let elements = format!("{NAMED} attach-embedding=true");
    let [sharp, blurred, dark] = [sharp, blurred, dark].map(|picture| {
        let found = faces(&picture, &elements);
        found[0].quality.expect("measured")
    });
    assert!(
        blurred.sharpness < sharp.sharpness / 2.0,
        "{blurred:?} {sharp:?}"
    );
    assert!(blurred.quality < sharp.quality);
    assert!(
        (dark.brightness * 4.0 - sharp.brightness).abs() < 0.05,
        "{dark:?} {sharp:?}"
    );
    assert!((0.1..0.9).contains(&sharp.brightness));
}

#[test]
fn faces_below_the_minimum_quality_get_no_name() {
    let group = Picture::open("t1.jpg");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("g.safetensors");
    feed::enroll(&path, &group, &["a", "b", "c", "d", "e", "f"]).expect("enrolled");
    let elements = |least: f64| {
        format!(
            "{NAMED} attach-embedding=true min-quality={least} gallery={}",
            path.display()
        )
    };
    let all = faces(&group, &elements(0.0));
    let mut qualities: Vec<f64> = all
        .iter()
        .map(|f| f.quality.expect("one").quality)
        .collect();
    assert!(all.iter().all(|face| face.recognition.is_some()));
    qualities.sort_by(f64::total_cmp);
    let least = (qualities[2] + qualities[3]) / 2.0;
    for face in faces(&group, &elements(least)) {
        let good = face.quality.expect("measured").quality >= least;
        assert_eq!(face.recognition.is_some(), good, "{face:?}");
        assert_eq!(face.embedding.is_some(), good);
    }
}

#[test]
fn a_picture_of_50_megapixels_is_examined_at_the_largest_size() {
    let mut large = Picture::black(8688, 5792);
    large.paste(&Picture::open("t1.jpg"), 7000, 4500);
    let feed = Feed::new(
        "facedetector inference-size=0 frames-in-flight=1",
        &large.caps(),
    );
    let feed = feed.expect("starts");
    for index in 0..2 {
        let found = feed.show(&large, index).expect("passes").faces;
        assert_eq!(found.len(), 6);
        assert!(
            found
                .iter()
                .all(|face| face.rect.x > 7000.0 && face.rect.y > 4500.0)
        );
    }
    let said = feed.messages(gst::MessageType::Info);
    assert_eq!(said.len(), 1, "once: {said:?}");
    let gst::MessageView::Info(info) = said[0].view() else {
        panic!("{said:?}");
    };
    assert!(info.error().to_string().contains("too large"), "{info:?}");
}
