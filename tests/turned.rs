//! Videos that are to be shown turned.

use face_tests::Running;

/// The warnings about a video with this orientation that goes through `elements`.
fn warnings(orientation: &str, elements: &str) -> Vec<String> {
    let running = Running::new(&format!(
        "videotestsrc num-buffers=5 ! video/x-raw,width=320,height=240 \
         ! taginject tags=\"image-orientation=(string){orientation}\" ! {elements} ! appsink name=out"
    ))
    .expect("a valid line");
    running.play().expect("starts");
    assert_eq!(running.collect().expect("plays").len(), 5);
    running.warnings()
}

#[test]
fn a_detector_warns_once_of_a_video_that_nobody_turned() {
    let said = warnings("rotate-90", "facedetector ! facedetector name=second");
    let turned: Vec<_> = said.iter().filter(|w| w.contains("rotate-90")).collect();
    assert_eq!(turned.len(), 2, "one each: {said:?}");
    assert!(
        turned[0].contains("videoflip video-direction=auto"),
        "{said:?}"
    );
    for (orientation, elements) in [
        ("rotate-0", "facedetector"),
        (
            "rotate-90",
            "videoflip video-direction=auto ! queue ! facedetector",
        ),
        (
            "flip-rotate-90",
            "videoflip video-direction=auto ! facedetector",
        ),
    ] {
        let said = warnings(orientation, elements);
        assert!(
            !said.iter().any(|w| w.contains("rotate")),
            "{elements}: {said:?}"
        );
    }
}
