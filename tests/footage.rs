//! The truth of made videos is what a detector finds on them.

use std::path::Path;

use face_tests::crossing::{Manner, SEEN, Scene, make, of_media};
use face_tests::{Running, best};

const SCENE: Scene = Scene {
    name: "small",
    width: 640,
    height: 360,
    rate: 10,
    seconds: 3,
    people: 4,
    faces: [50.0, 80.0],
    speed: [1.5, 3.0],
    manner: Manner::Stroll,
    pillars: 1,
    noise: 2.0,
    seed: 11,
};

fn detected(video: &Path) -> Vec<face_tests::Frame> {
    let pipeline = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! facedetector inference-size=0 ! \
         appsink name=out sync=false",
        video.display()
    ));
    let pipeline = pipeline.expect("valid");
    pipeline.play().expect("it plays");
    pipeline.collect().expect("it ends")
}

#[test]
fn faces_are_where_the_truth_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let footage = make(&SCENE, of_media(), folder.path()).expect("made");
    let frames = detected(&footage.video);
    assert_eq!(frames.len(), footage.faces.len());
    let (mut seen, mut found, mut hidden) = (0, 0, 0);
    for (frame, truth) in frames.iter().zip(&footage.faces) {
        for face in truth {
            let iou = best(&face.rect, &frame.faces).map_or(0.0, |(_, iou)| iou);
            match face.visible {
                0.95.. => {
                    seen += 1;
                    found += usize::from(iou > 0.6);
                }
                ..SEEN => hidden += 1,
                _ => {}
            }
        }
    }
    assert!(seen >= 40 && hidden >= 5, "{seen} {hidden}");
    // Some of them sway, and some are small.
    assert!(found * 10 >= seen * 9, "{found} of {seen}");
    let boxes: usize = footage.faces.iter().map(Vec::len).sum();
    for truth in [&footage.truth, &footage.visits] {
        let text = std::fs::read_to_string(truth).expect("written");
        assert_eq!(text.lines().count(), boxes);
    }
}

#[test]
fn a_scene_is_the_same_every_time() {
    let make = || {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Scene {
            seconds: 1,
            ..SCENE
        };
        make(&scene, of_media(), folder.path()).expect("made").faces
    };
    assert_eq!(make(), make());
}
