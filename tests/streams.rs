//! Streams that change, jump, end early or are almost empty: sizes, flushes, gaps, missing
//! timestamps.

use face_meta::Face;
use face_tests::feed::{Feed, add_region, at, ended, enroll};
use face_tests::{Frame, Picture, Running, best, media, run_file, run_picture};
use gst::prelude::*;

const STAGES: &str = "facedetector ! facetracker ! facerecognizer attach-embedding=true interval=0 \
    ! faceagegender interval=0 min-gender-confidence=0 max-age-deviation=1000 min-face-size=0 \
    min-frontality=0 min-sharpness=0";

fn tracks(faces: &[Face]) -> Vec<u64> {
    let mut ids: Vec<u64> = faces.iter().filter_map(|f| Some(f.track?.id)).collect();
    ids.sort_unstable();
    ids
}

/// Whether both lists hold the same faces, apart from their tracks.
fn same_faces(a: &[Face], b: &[Face]) -> bool {
    let without = |faces: &[Face]| -> Vec<Face> {
        let bare = |face: &Face| Face {
            track: None,
            ..face.clone()
        };
        faces.iter().map(bare).collect()
    };
    without(a) == without(b)
}

#[test]
fn caps_change_in_mid_stream() {
    let group = Picture::open("t1.jpg");
    let feed = Feed::bare(STAGES).expect("starts");
    feed.begin();
    let sizes = [
        (640, 360, "NV12"),
        (320, 240, "I420"),
        (1280, 720, "RGB"),
        (640, 360, "NV12"),
    ];
    for (index, (width, height, format)) in sizes.into_iter().enumerate() {
        let picture = group.resized(width, height);
        let sample = picture
            .converted(&format!("format={format}"))
            .expect("videoconvert can");
        let caps = sample.caps_owned().expect("caps");
        assert!(feed.caps(&caps), "{caps}");
        feed.segment();
        let mut buffer = sample.buffer_owned().expect("a buffer");
        buffer.make_mut().set_pts(at(index as u64));
        let frame = feed.pass(buffer).expect("passes");
        let alone = Feed::new(STAGES, &caps).expect("starts");
        let expected = alone
            .pass(sample.buffer_owned().expect("a buffer"))
            .expect("passes");
        assert!(expected.faces.len() >= 4, "{width}x{height}");
        assert!(same_faces(&frame.faces, &expected.faces), "{caps}");
        assert_eq!((frame.width, frame.height), (width, height));
    }
}

#[test]
fn caps_change_in_mid_stream_of_a_pipeline() {
    let group = Picture::open("t1.jpg");
    let running = Running::new(&format!(
        "appsrc name=in format=time ! queue ! {STAGES} ! queue ! appsink name=out sync=false"
    ))
    .expect("a valid pipeline");
    running.play().expect("starts");
    let source = running.source();
    for (width, height) in [(640, 360), (320, 240), (1280, 720)] {
        let sample = group
            .resized(width, height)
            .converted("format=NV12")
            .expect("videoconvert can");
        source.push_sample(&sample).expect("accepted");
        let frame = running.next().expect("no error").expect("a frame");
        assert_eq!((frame.width, frame.height), (width, height));
        assert!(frame.faces.len() >= 4, "{width}x{height}");
    }
    source.end_of_stream().expect("accepted");
    assert!(running.next().expect("no error").is_none());
}

#[test]
fn a_flush_ends_tracks_and_votes() {
    let group = Picture::open("t1.jpg");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g.safetensors");
    enroll(&path, &group, &["a", "b", "c", "d", "e", "f"]).expect("six faces");
    let feed = Feed::new(
        &format!(
            "facedetector ! facetracker ! facerecognizer interval=0 gallery=\"{}\"",
            path.display()
        ),
        &group.caps(),
    )
    .expect("starts");
    let show = |picture, index| feed.show(picture, index).expect("passes").faces;
    let first = show(&group, 0);
    assert_eq!(tracks(&first), [1, 2, 3, 4, 5, 6]);
    // A blurred picture gives other distances, which the votes remember.
    let blurred = group.resized(320, 222).resized(group.width, group.height);
    let second = show(&blurred, 1);
    assert!(!same_faces(&first, &second));
    assert_eq!(tracks(&second), [1, 2, 3, 4, 5, 6]);
    feed.flush();
    assert_eq!(feed.ended(), [1, 2, 3, 4, 5, 6]);
    let again = show(&group, 0);
    assert_eq!(tracks(&again), [7, 8, 9, 10, 11, 12], "no id comes back");
    assert!(same_faces(&first, &again), "votes are dropped");
    // A new stream on the same pad has the same effect.
    feed.begin();
    feed.caps(&group.caps());
    feed.segment();
    assert_eq!(feed.ended(), [7, 8, 9, 10, 11, 12]);
    let anew = show(&group, 0);
    assert_eq!(tracks(&anew), [13, 14, 15, 16, 17, 18]);
    assert!(same_faces(&first, &anew), "votes are dropped");
}

#[test]
fn seeking_in_a_file() {
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! {STAGES} ! \
         appsink name=out sync=false max-buffers=1",
        media("single_face.mp4").display()
    ))
    .expect("a valid pipeline");
    let bus = running.0.bus().expect("a bus");
    let back = |state: gst::State| {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        running
            .0
            .seek_simple(flags, gst::ClockTime::ZERO)
            .expect("the file can be sought");
        let (outcome, now, _) = running.0.state(face_tests::TIMEOUT);
        outcome.expect("the state is reached again");
        assert_eq!(now, state);
        let message = || bus.pop_filtered(&[gst::MessageType::Element]);
        ended(&std::iter::from_fn(message).collect::<Vec<_>>())
    };
    running.play().expect("starts");
    // Drops the samples: appsink 1.22 wants its own back before it changes its caps.
    let frames = |count: usize| -> Vec<(Option<u64>, Vec<Face>)> {
        let next = || running.next().expect("no error").expect("a frame");
        let parts = |frame: Frame| (frame.pts, frame.faces);
        std::iter::repeat_with(next)
            .map(parts)
            .take(count)
            .collect()
    };
    let first = frames(20);
    let mut last: Vec<u64> = first.iter().flat_map(|(_, f)| tracks(f)).collect();
    let mut used = last.clone();
    assert!(!used.is_empty());
    for state in [gst::State::Playing, gst::State::Paused, gst::State::Playing] {
        running.0.set_state(state).expect("changes");
        let over = back(state);
        assert!(last.iter().all(|id| over.contains(id)), "{last:?} {over:?}");
        running.0.set_state(gst::State::Playing).expect("changes");
        let again = frames(20);
        for ((pts, faces), (pts_before, faces_before)) in again.iter().zip(&first) {
            assert_eq!(pts, pts_before);
            assert!(same_faces(faces, faces_before));
            let ids = tracks(faces);
            assert!(ids.iter().all(|id| !used.contains(id)), "{state:?}");
        }
        last = again.iter().flat_map(|(_, f)| tracks(f)).collect();
        used.extend(&last);
    }
}

#[test]
fn frames_of_hardly_any_pixels() {
    let group = Picture::open("t1.jpg");
    let sizes = [
        (1, 1),
        (2, 1),
        (16, 16),
        (31, 33),
        (1, 8000),
        (8000, 1),
        (3, 2000),
    ];
    for (width, height) in sizes {
        let picture = group.resized(width, height);
        for format in ["I420", "NV12", "RGB", "GRAY8", "YUY2", "I420_10LE"] {
            let sample = picture
                .converted(&format!("format={format}"))
                .expect("videoconvert can");
            for elements in [
                STAGES,
                &STAGES.replace("facedetector", "facedetector inference-size=0"),
            ] {
                let feed =
                    Feed::new(elements, &sample.caps_owned().expect("caps")).expect("starts");
                for index in 0..2 {
                    let mut buffer = sample.buffer().expect("a buffer").copy();
                    buffer.make_mut().set_pts(at(index));
                    // A foreign region over the whole frame, so that every stage reads the pixels.
                    add_region(&mut buffer, "face", (0, 0, width, height), 0);
                    let frame = feed.pass(buffer).expect("passes");
                    let what = format!("{width}x{height} {format}");
                    assert!(!frame.faces.is_empty(), "{what}");
                    assert!(frame.faces[0].age.is_some_and(f64::is_finite), "{what}");
                }
            }
        }
    }
}

#[test]
fn streams_without_frames() {
    let caps = Picture::black(64, 48).caps();
    for elements in [
        "facedetector",
        "facetracker",
        "facerecognizer attach-embedding=true",
        "faceagegender",
        STAGES,
        &format!("{STAGES} ! facemetaoverlay"),
        &format!("{STAGES} ! facemetajson"),
    ] {
        for with_caps in [true, false] {
            let feed = Feed::bare(elements).expect("starts");
            feed.begin();
            if with_caps {
                assert!(feed.caps(&caps), "{elements}");
                feed.segment();
            }
            assert!(feed.eos(), "{elements}");
            assert!(
                feed.running.next().expect("no error").is_none(),
                "{elements}"
            );
        }
    }
}

#[test]
fn gaps() {
    let group = Picture::open("t1.jpg");
    let feed = Feed::new(STAGES, &group.caps()).expect("starts");
    let first = feed.show(&group, 0).expect("passes");
    for index in 1..6 {
        // Neither a gap event nor a buffer without content counts as a frame without faces.
        let gap = gst::event::Gap::builder(at(2 * index - 1)).duration(at(1));
        assert!(feed.event(gap.build()));
        let mut empty = gst::Buffer::new();
        let writable = empty.make_mut();
        writable.set_pts(at(2 * index - 1));
        writable.set_flags(gst::BufferFlags::GAP | gst::BufferFlags::DROPPABLE);
        let passed = feed.pass(empty).expect("passes");
        assert!(passed.faces.is_empty());
        // `videorate` marks the frames that it repeats as gaps. They are still frames.
        let mut repeated = group.buffer(at(2 * index));
        repeated.make_mut().set_flags(gst::BufferFlags::GAP);
        let frame = feed.pass(repeated).expect("passes");
        assert_eq!(tracks(&frame.faces), tracks(&first.faces));
        assert_eq!(frame.faces.len(), 6);
        assert!(frame.faces.iter().all(|f| !f.is_predicted()));
    }
    assert!(feed.ended().is_empty());
}

#[test]
fn buffers_without_a_time() {
    let group = Picture::open("t1.jpg");
    let feed = Feed::new(STAGES, &group.caps()).expect("starts");
    let timeless = |picture: &Picture| {
        let mut buffer = picture.buffer(gst::ClockTime::ZERO);
        buffer.make_mut().set_pts(gst::ClockTime::NONE);
        buffer.make_mut().set_duration(gst::ClockTime::NONE);
        feed.pass(buffer).expect("passes")
    };
    for _ in 0..10 {
        let frame = timeless(&group);
        assert_eq!(tracks(&frame.faces), [1, 2, 3, 4, 5, 6]);
        assert!(frame.faces.iter().all(|f| f.age.is_some()));
    }
    // The frame rate replaces the clock: lost tracks end after `max-lost`.
    let black = Picture::black(group.width, group.height);
    for _ in 0..80 {
        timeless(&black);
    }
    let messages = feed.messages(gst::MessageType::Element);
    assert_eq!(ended(&messages), [1, 2, 3, 4, 5, 6]);
    for message in messages {
        let structure = message.structure().expect("a structure");
        assert_eq!(structure.get("first-seen"), Ok(0u64));
        assert_eq!(structure.get("last-seen"), Ok(at(9).nseconds()));
    }
}

#[test]
fn a_detector_that_looks_at_every_fourth_frame() {
    let clip = "single_face.mp4";
    let all = run_file(clip, "facedetector ! facetracker").expect("runs");
    let some = run_file(clip, "facedetector interval=4 ! facetracker").expect("runs");
    assert_eq!(all.len(), some.len());
    assert!(all.len() > 60);
    let mut ids = Vec::new();
    let mut ious = Vec::new();
    for (index, (frame, every)) in some.iter().zip(&all).enumerate() {
        let due = index % 4 == 0;
        let buffer = frame.sample.buffer().expect("a buffer");
        assert_eq!(face_meta::examined(buffer), Some(due), "frame {index}");
        let [expected] = every.faces.as_slice() else {
            continue;
        };
        let (face, iou) = best(&expected.rect, &frame.faces).expect("a face between, too");
        assert_eq!(face.is_predicted(), !due, "frame {index}");
        assert_eq!(
            face.confidence.is_some(),
            due,
            "only what was detected has a confidence"
        );
        ids.extend(tracks(&frame.faces));
        ious.push(iou);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one person, one track: {ids:?}");
    let mean = ious.iter().sum::<f64>() / ious.len() as f64;
    let worst = ious.iter().copied().fold(1.0, f64::min);
    println!("predicted boxes: IoU mean {mean:.3}, worst {worst:.3}");
    assert!(mean > 0.85 && worst > 0.5);
}

#[test]
fn a_tracker_takes_frames_that_nobody_can_map() {
    for features in [
        "memory:Imaginary",
        "memory:GLMemory",
        "memory:DMABuf, meta:Odd",
    ] {
        let caps: gst::Caps = format!("video/x-raw({features}),format=NV12,width=640,height=360")
            .parse()
            .expect("valid caps");
        let feed = Feed::new("facetracker name=t ! facetracker", &caps).expect("accepted");
        let pad = feed.running.element("t").static_pad("sink").expect("a pad");
        assert!(
            pad.query_caps(Some(&caps)).can_intersect(&caps),
            "{features}"
        );
        for index in 0..5 {
            let mut buffer = gst::Buffer::new();
            buffer.make_mut().set_pts(at(index));
            add_region(&mut buffer, "face", (100, 100, 50, 60), 0);
            let frame = feed.pass(buffer).expect("passes");
            assert_eq!(tracks(&frame.faces), [1]);
        }
        // A stage that needs the pixels refuses at once instead of failing later.
        assert!(Feed::new("facedetector", &caps).is_err());
    }
}

/// For a face cut by the frame's edge, the region is clipped and the exact box is not.
#[test]
fn faces_across_the_edge() {
    let portrait = Picture::open("45-m7-di-ph.jpg");
    let whole = run_picture(&portrait, "facedetector").expect("runs").faces;
    let margin = (whole[0].rect.x + 0.3 * whole[0].rect.w) as u32;
    let cut = portrait.crop(margin, 0, portrait.width - margin, portrait.height);
    let frame = run_picture(&cut, STAGES).expect("runs");
    let [face] = frame.faces.as_slice() else {
        panic!("{} faces", frame.faces.len());
    };
    assert!(face.rect.x < -1.0, "{:?}", face.rect);
    assert!(face.age.is_some() && face.embedding.is_some());
    let buffer = frame.sample.buffer().expect("a buffer");
    let region = buffer
        .meta::<gst_video::VideoRegionOfInterestMeta>()
        .expect("a region");
    assert_eq!(region.rect().0, 0, "clipped");
}
