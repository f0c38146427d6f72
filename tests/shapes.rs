//! Models see square pixels, whatever the pixel aspect ratio of the frames is.

use face_tests::{Frame, cosine, run_file};

const CLIP: &str = "single_face.mp4";

/// The frames of the clip, squeezed to `caps`.
fn frames(caps: &str) -> Vec<Frame> {
    let elements = format!(
        "videoconvert ! videoscale ! {caps} ! facedetector ! \
         facerecognizer attach-embedding=true interval=0"
    );
    run_file(CLIP, &elements).expect("the clip plays")
}

#[test]
fn a_squeezed_frame_shows_the_same_face() {
    let plain = frames("video/x-raw,width=640,height=360,pixel-aspect-ratio=1/1");
    let faces: usize = plain.iter().map(|frame| frame.faces.len()).sum();
    assert!(faces >= 60, "{faces}");
    for (caps, across, down) in [
        ("width=320,height=360,pixel-aspect-ratio=2/1", 2.0, 1.0),
        ("width=640,height=180,pixel-aspect-ratio=1/2", 1.0, 2.0),
        (
            "width=480,height=360,pixel-aspect-ratio=4/3",
            4.0 / 3.0,
            1.0,
        ),
    ] {
        let squeezed = frames(&format!("video/x-raw,{caps}"));
        assert_eq!(squeezed.len(), plain.len());
        for (plain, squeezed) in plain.iter().zip(&squeezed) {
            assert_eq!(plain.faces.len(), squeezed.faces.len(), "{caps}");
            for (face, other) in plain.faces.iter().zip(&squeezed.faces) {
                let rect = other.rect.scaled(across, down);
                assert!(
                    face.rect.iou(&rect) > 0.85,
                    "{caps}: {:?} {rect:?}",
                    face.rect
                );
                let values =
                    |face: &face_meta::Face| face.embedding.as_ref().expect("one").values.clone();
                let likeness = cosine(&values(face), &values(other));
                assert!(likeness > 0.85, "{caps}: {likeness}");
                let weight = |face: &face_meta::Face| {
                    face.embedding.as_ref().and_then(|e| e.weight).expect("one")
                };
                let ratio = weight(other) / weight(face);
                assert!((0.4..2.0).contains(&ratio), "{caps}: {ratio}");
            }
        }
    }
}

/// A face that fills an input of more than 640 pixels is too large for the detector.
#[test]
fn a_face_that_fills_a_large_frame_is_found_at_any_size() {
    let found = |size: u32| {
        let elements = format!(
            "identity eos-after=3 ! videoconvert ! videocrop left=300 right=90 top=30 ! videoscale ! \
             video/x-raw,width=1475,height=1946,pixel-aspect-ratio=1/1 ! \
             facedetector inference-size={size}"
        );
        let frames = run_file("WolfgangLanger_Pexels.mp4", &elements).expect("the clip plays");
        // How many frames pass before the end is a matter of time.
        frames.first().expect("a frame").faces.clone()
    };
    let small = found(640);
    assert_eq!(small.len(), 1, "as a face of usual size");
    for size in [0, 1280, 1946] {
        let faces = found(size);
        println!(
            "{size}: {:?}",
            faces.iter().map(|f| f.rect).collect::<Vec<_>>()
        );
        assert_eq!(faces.len(), 1, "inference-size={size}");
        assert!(
            faces[0].rect.iou(&small[0].rect) > 0.7,
            "inference-size={size}"
        );
    }
}
