//! `facemetablur` after elements that scale, turn or replace the frames.

use face_meta::geometry::Rect;
use face_tests::Picture;
use face_tests::feed::Feed;

use super::{FILL, exposed_at, references};

/// Before 1.28, videoscale moves regions as if it added no borders. Later elements cannot see that.
#[test]
fn no_face_is_left_visible_behind_a_scaler() {
    let references = references();
    let (wide, high) = ((1920.0, 360.0), (640.0, 360.0));
    for (name, (from_width, from_height)) in [("mosaic", wide), ("selfie", high)] {
        let reference = references.iter().find(|r| r.name == name);
        let reference = reference.expect("is there");
        for (width, height, borders) in [(640, 480, true), (1280, 200, true), (640, 480, false)] {
            let stages = format!(
                "facedetector ! facetracker ! videoscale add-borders={borders} ! \
                 video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1 ! {FILL} hold=0"
            );
            let place = |rect: &Rect, (width, height): (u32, u32)| {
                let (w, h) = (f64::from(width), f64::from(height));
                let (sx, sy) = (w / from_width, h / from_height);
                let (kx, ky) = if borders {
                    (sx.min(sy), sx.min(sy))
                } else {
                    (sx, sy)
                };
                let (dx, dy) = (w - from_width * kx, h - from_height * ky);
                let rect = rect.scaled(kx, ky);
                Rect::new(rect.x + dx / 2.0, rect.y + dy / 2.0, rect.w, rect.h)
            };
            let (faces, visible, warnings) = exposed_at(reference, &stages, place);
            println!("{name} {width}x{height} {borders}: {visible} of {faces}, {warnings:?}");
            assert!(faces >= 72 && visible == 0);
            let unsure = usize::from(!face_meta::regions_follow());
            assert_eq!(warnings.len(), unsure, "{warnings:?}");
            assert!(
                warnings
                    .iter()
                    .all(|w| w.contains("in front of the scaler"))
            );
        }
    }
    // The same aspect ratio causes no warning.
    let selfie = references.iter().find(|r| r.name == "selfie");
    let stages = format!(
        "facedetector ! facetracker ! videoscale ! video/x-raw,width=320,height=180 ! {FILL}"
    );
    let place = |rect: &Rect, _| rect.scaled(0.5, 0.5);
    let (faces, visible, warnings) = exposed_at(selfie.expect("is there"), &stages, place);
    assert_eq!((faces, visible, warnings), (72, 0, vec![]));
}

#[test]
fn faces_that_cannot_be_hidden_are_said_to_be_visible() {
    let subject = Picture::open("single_face.jpg");
    let caps = subject.caps();
    // The region is dropped; the face's other metadata stays.
    let feed = Feed::new(
        "facedetector ! videoflip video-direction=90r ! facemetablur",
        &caps,
    );
    let feed = feed.expect("starts");
    for index in 0..3 {
        feed.show(&subject, index).expect("passes");
    }
    let said = feed.running.warnings();
    assert_eq!(
        said.len(),
        usize::from(!face_meta::regions_follow()),
        "{said:?}"
    );
    assert!(
        said.iter().all(|text| text.contains("videoflip")),
        "{said:?}"
    );
    // No detector, and a detector that finds nobody.
    let black = Picture::black(100, 100);
    for (elements, expected) in [("facemetablur", 1), ("facedetector ! facemetablur", 0)] {
        let feed = Feed::new(elements, &black.caps()).expect("starts");
        for index in 0..60 {
            feed.show(&black, index).expect("passes");
        }
        let said = feed.running.warnings();
        assert_eq!(said.len(), expected, "{said:?}");
        assert!(
            said.iter().all(|text| text.contains("facedetector")),
            "{said:?}"
        );
    }
}
