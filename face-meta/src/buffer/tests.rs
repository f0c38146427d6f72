use super::*;

fn buffer() -> gst::Buffer {
    gst::init().expect("GStreamer starts");
    gst::Buffer::new()
}

fn full_face() -> Face {
    Face {
        id: 0,
        rect: Rect::new(-3.25, 10.5, 40.0, 50.75),
        landmarks: Some([1.0, 2.0, 3.0, 4.0, 5.0].map(|v| Point::new(v * 4.5, 20.0 + v))),
        confidence: Some(0.9),
        model: Some("yunet".into()),
        track: Some(Track {
            id: 7,
            first_seen: 40,
            predicted: false,
        }),
        recognition: Some(Recognition {
            name: "penny".into(),
            confidence: 0.8,
            distance: 0.4,
        }),
        pose: Some(Pose::from([12.5, -3.0, 90.0])),
        quality: Some(Quality {
            quality: 0.5,
            sharpness: 0.25,
            brightness: 0.75,
        }),
        age: Some(27.4),
        gender: Some(Gender {
            label: "female".into(),
            confidence: 0.99,
        }),
        expression: Some(Expression {
            label: "happy".into(),
            confidence: 0.7,
        }),
        embedding: Some(Embedding {
            model: "sface".into(),
            weight: Some(0.75),
            values: vec![0.6, -0.8],
        }),
    }
}

fn close(a: &Face, b: &Face) {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    near(a.rect.x, b.rect.x);
    near(a.rect.y, b.rect.y);
    near(a.rect.w, b.rect.w);
    near(a.rect.h, b.rect.h);
    for (p, q) in a
        .landmarks
        .iter()
        .flatten()
        .zip(b.landmarks.iter().flatten())
    {
        near(p.distance(*q), 0.0);
    }
    let rest = |f: &Face| Face {
        id: 0,
        rect: Rect::default(),
        landmarks: None,
        ..f.clone()
    };
    assert_eq!(rest(a), rest(b));
}

#[test]
fn all_that_is_written_is_read() {
    let mut buffer = buffer();
    let buffer = buffer.get_mut().expect("only one owner");
    assert_eq!(add(buffer, (100, 80), &full_face()), Some(1));
    let read = read(buffer);
    assert_eq!(read.len(), 1);
    close(&read[0], &full_face());
    let region = buffer
        .meta::<VideoRegionOfInterestMeta>()
        .expect("a region");
    assert_eq!(
        (region.roi_type(), region.rect()),
        ("face", (0, 10, 38, 52))
    );
}

#[test]
fn a_face_outside_of_the_frame_is_not_added() {
    let mut buffer = buffer();
    let buffer = buffer.get_mut().expect("only one owner");
    for rect in [
        Rect::new(200.0, 0.0, 10.0, 10.0),
        Rect::new(f64::NAN, 0.0, 10.0, 10.0),
        Rect::new(0.0, 0.0, 0.0, 10.0),
    ] {
        assert_eq!(
            add(
                buffer,
                (100, 80),
                &Face {
                    rect,
                    ..Default::default()
                }
            ),
            None
        );
    }
    assert!(read(buffer).is_empty());
}

#[test]
fn strangers_get_ids_and_keep_theirs() {
    let mut buffer = buffer();
    let buffer = buffer.get_mut().expect("only one owner");
    VideoRegionOfInterestMeta::add(buffer, "car", (0, 0, 9, 9)).set_id(3);
    VideoRegionOfInterestMeta::add(buffer, "face", (1, 1, 9, 9));
    VideoRegionOfInterestMeta::add(buffer, "face", (2, 2, 9, 9));
    VideoRegionOfInterestMeta::add(buffer, "face", (3, 3, 9, 9)).set_id(3);
    VideoRegionOfInterestMeta::add(buffer, "face", (4, 4, 9, 9)).set_id(12);
    let faces = claim(buffer);
    let ids: Vec<i32> = faces.iter().map(|f| f.id).collect();
    assert_eq!(ids, [13, 14, 15, 12]);
    assert!(
        faces
            .iter()
            .all(|f| f.confidence.is_none() && f.rect.w == 9.0)
    );
    let named = Face {
        age: Some(30.0),
        ..faces[1].clone()
    };
    update(buffer, std::slice::from_ref(&named));
    let after = read(buffer);
    assert_eq!((after[0].age, after[1].age), (None, Some(30.0)));
    assert_eq!(after.len(), 4, "the car is none of ours");
}

#[test]
fn unknown_fields_survive_an_update() {
    let mut buffer = buffer();
    let buffer = buffer.get_mut().expect("only one owner");
    let id = add(buffer, (100, 80), &full_face()).expect("inside");
    with_structure(buffer, |s| {
        let mut entry = s.get::<gst::Structure>(field(id)).expect("just added");
        entry.set("mood", "calm");
        s.set(field(id), entry);
    });
    let faces = read(buffer);
    update(buffer, &faces);
    let meta = CustomMeta::from_buffer(buffer, META_NAME).expect("added");
    let entry = meta
        .structure()
        .get::<gst::Structure>(field(id))
        .expect("kept");
    assert_eq!(entry.get::<String>("mood").as_deref(), Ok("calm"));
}

#[test]
fn junk_under_our_names_is_no_face_data() {
    let mut buffer = buffer();
    let buffer = buffer.get_mut().expect("only one owner");
    VideoRegionOfInterestMeta::add(buffer, "face", (1, 1, 9, 9)).set_id(5);
    with_structure(buffer, |s| {
        let mut entry = gst::Structure::new_empty("junk");
        entry.set("box", gst::Array::new([1.0f64, f64::NAN, 2.0, 3.0]));
        entry.set("landmarks", "none");
        entry.set("confidence", f64::INFINITY);
        entry.set("track", -4i32);
        entry.set("embedding-model", "x");
        entry.set("embedding", glib::Bytes::from_static(&[1, 2, 3]));
        s.set("face-5", entry);
        s.set("face-x", 3i32);
    });
    let face = &read(buffer)[0];
    assert_eq!(
        *face,
        Face {
            id: 5,
            rect: Rect::new(1.0, 1.0, 9.0, 9.0),
            ..Default::default()
        }
    );
}

#[test]
fn examined_by_one_of_two_detectors_is_examined() {
    let mut buffer = buffer();
    let buffer = buffer.get_mut().expect("only one owner");
    assert_eq!(examined(buffer), None);
    set_examined(buffer, true);
    set_examined(buffer, false);
    assert_eq!(examined(buffer), Some(true));
}
