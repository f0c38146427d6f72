//! Properties of geometry, sampling and metadata for any numbers: NaN, infinite, negative, huge,
//! empty.

use std::collections::HashSet;

use face_core::image::{Picture, PixelShape, Sampler, warp_rows};
use face_core::model::{ColorOrder, Dimension, Input};
use face_meta::geometry::{Point, Rect, Similarity, non_maximum_suppression};
use face_meta::{Embedding, Expression, Face, Gender, Pose, Quality, Recognition, Track};
use gst_video::VideoRegionOfInterestMeta;
use proptest::prelude::*;

/// Ordinary numbers, and all others.
fn number() -> impl Strategy<Value = f64> {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        1e-160,
        1e160,
        -1e18,
        0.0,
        -0.0,
        1.0,
    ];
    prop_oneof![
        4 => -50.0..200.0,
        2 => proptest::sample::select(special.to_vec()),
        1 => proptest::num::f64::ANY,
    ]
}

prop_compose! {
    fn rect()(x in number(), y in number(), w in number(), h in number()) -> Rect {
        Rect::new(x, y, w, h)
    }
}

prop_compose! {
    fn point()(x in number(), y in number()) -> Point {
        Point::new(x, y)
    }
}

fn points() -> impl Strategy<Value = Vec<Point>> {
    proptest::collection::vec(point(), 0..7)
}

fn is_finite(s: &Similarity) -> bool {
    [s.a, s.b, s.tx, s.ty].iter().all(|v| v.is_finite())
}

/// Does not save failures to a file: each one becomes a regular test.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(count)
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn overlaps_are_shares(a in rect(), b in rect()) {
        let iou = a.iou(&b);
        prop_assert!((0.0..=1.0).contains(&iou), "{iou}");
        prop_assert_eq!(iou, b.iou(&a));
        let common = a.intersection(&b);
        prop_assert!(common.w >= 0.0 && common.h >= 0.0, "{common:?}");
        // Far from the origin, rounding the sum of a corner and a side changes it by more than the
        // side.
        let near = [a, b].iter().all(|r| r.x.abs().max(r.y.abs()) < 1e6);
        let least = a.area().min(b.area()) + 1e-6;
        prop_assert!(!near || common.area() <= least * (1.0 + 1e-6), "{a:?}, {b:?}: {common:?}");
        if !a.is_finite() || !b.is_finite() {
            prop_assert_eq!(common.area(), 0.0);
        }
    }

    #[test]
    fn a_box_is_itself(x in -1e6..1e6, y in -1e6..1e6, w in 0.1..1e6, h in 0.1..1e6) {
        let rect = Rect::new(x, y, w, h);
        prop_assert!((rect.iou(&rect) - 1.0).abs() < 1e-6, "{}", rect.iou(&rect));
    }

    #[test]
    fn a_fitted_transform_can_be_used(from in points(), to in points()) {
        if let Some(fit) = Similarity::fit(&from, &to) {
            prop_assert!(is_finite(&fit) && fit.scale() > 0.0, "{fit:?}");
            prop_assert!(is_finite(&fit.inverse()), "{fit:?} {:?}", fit.inverse());
        }
    }

    #[test]
    fn suppression_keeps_each_box_once(
        boxes in proptest::collection::vec(rect(), 0..30),
        scores in proptest::collection::vec(proptest::num::f32::ANY, 0..30),
        threshold in number(),
    ) {
        let kept = non_maximum_suppression(&boxes, &scores, threshold);
        let different: HashSet<usize> = kept.iter().copied().collect();
        prop_assert_eq!(different.len(), kept.len());
        prop_assert!(kept.iter().all(|&i| i < boxes.len() && i < scores.len()));
    }

    #[test]
    fn any_transform_samples_only_the_picture(
        a in number(), b in number(), tx in number(), ty in number(),
        (width, height) in (1usize..40, 1usize..40),
    ) {
        let pixels = vec![255; 3 * width * height];
        let picture = Picture::from_rgb(&pixels, width, height).expect("long enough");
        let to_source = Similarity { a, b, tx, ty };
        let rows = warp_rows(&to_source, (16, 12), PixelShape::SQUARE);
        prop_assert!(!rows.is_empty());
        let mut tensor = vec![f32::NAN; 3 * 16 * 12];
        Sampler::new().warp(&picture, &to_source, &input(), &mut tensor, (16, 12));
        for value in tensor {
            prop_assert!((-0.01..=255.01).contains(&value), "{value}");
        }
    }

    #[test]
    fn any_size_is_letterboxed(
        (width, height) in (1usize..80, 1usize..80),
        content in (1usize..40, 1usize..40),
        size in (1usize..30, 1usize..30),
    ) {
        let pixels = vec![255; 3 * width * height];
        let picture = Picture::from_rgb(&pixels, width, height).expect("long enough");
        let mut tensor = vec![f32::NAN; 3 * size.0 * size.1];
        Sampler::new().letterbox(&picture, content, &input(), &mut tensor, size);
        for value in tensor {
            prop_assert!((-0.01..=255.01).contains(&value), "{value}");
        }
    }
}

/// An input whose values are the pixels.
fn input() -> Input {
    Input {
        name: "x".into(),
        shape: ["N", "3", "H", "W"].map(|s| Dimension::Symbol(s.into())),
        color: ColorOrder::Rgb,
        mean: [0.0; 3],
        scale: [1.0; 3],
        multiple: 1,
        normalization: Default::default(),
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("a\0b".into()),
        Just("box".into()),
        any::<String>()
    ]
}

prop_compose! {
    fn face()(
        rect in rect(),
        landmarks in proptest::option::of([point(), point(), point(), point(), point()]),
        numbers in [number(), number(), number(), number()],
        texts in [text(), text(), text()],
        track in proptest::option::of((any::<u64>(), any::<u64>(), any::<bool>())),
        values in proptest::option::of(proptest::collection::vec(proptest::num::f32::ANY, 0..20)),
    ) -> Face {
        let [model, name, label] = texts;
        Face {
            id: 0,
            rect,
            landmarks,
            pose: Some(Pose::from([numbers[0], numbers[1], numbers[2]])),
            quality: Some(Quality {
                quality: numbers[0],
                sharpness: numbers[1],
                brightness: numbers[2],
            }),
            confidence: Some(numbers[0]),
            model: Some(model.clone()),
            track: track.map(|(id, first_seen, predicted)| Track { id, first_seen, predicted }),
            recognition: Some(Recognition { name, confidence: numbers[1], distance: numbers[2] }),
            age: Some(numbers[3]),
            expression: Some(Expression { label: label.clone(), confidence: numbers[2] }),
            gender: Some(Gender { label, confidence: numbers[0] }),
            embedding: values.map(|values| Embedding { model, values, weight: Some(numbers[1]) }),
        }
    }
}

fn bits(embedding: &Option<Embedding>) -> Option<Vec<u32>> {
    let values = &embedding.as_ref()?.values;
    Some(values.iter().map(|v| v.to_bits()).collect())
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn faces_come_back_from_metadata(face in face(), size in (0u32..5000, 0u32..5000)) {
        gst::init().expect("GStreamer starts");
        let mut buffer = gst::Buffer::new();
        let target = buffer.make_mut();
        let id = face_meta::add(target, size, &face);
        let faces = face_meta::claim(target);
        prop_assert_eq!(faces.len(), usize::from(id.is_some()));
        let (Some(id), Some(found)) = (id, faces.first()) else {
            return Ok(());
        };
        prop_assert_eq!(found.id, id);
        prop_assert!(found.rect.is_finite(), "{:?} of {:?}", found, face);
        let (near, far) = (found.rect, face.rect);
        let error = (near.x - far.x).abs() + (near.right() - far.right()).abs();
        // Beyond any number that can be relative to a region, the box is the region itself.
        let countable = far.x.abs().max(far.y.abs()).max(far.w).max(far.h) < 1e100;
        prop_assert!(
            !countable || error <= 1e-6 * (1.0 + far.x.abs() + far.w),
            "{near:?} of {far:?}"
        );
        for number in [found.confidence, found.age] {
            prop_assert!(number.is_none_or(f64::is_finite));
        }
        prop_assert!(found.landmarks.iter().flatten().all(|p| p.x.is_finite() && p.y.is_finite()));
        prop_assert_eq!(found.track, face.track);
        prop_assert_eq!(bits(&found.embedding), bits(&face.embedding));
        // A face that was read can be written, and stays the same.
        face_meta::update(target, &faces);
        let again = face_meta::read(target);
        prop_assert_eq!(&again[0].recognition, &faces[0].recognition);
        prop_assert_eq!(again[0].confidence, faces[0].confidence);
    }

    #[test]
    fn regions_of_strangers_get_ids_of_their_own(
        regions in proptest::collection::vec(
            (any::<bool>(), prop_oneof![-2..4i32, Just(i32::MAX), any::<i32>()], any::<[u32; 4]>()),
            0..30,
        ),
    ) {
        gst::init().expect("GStreamer starts");
        let mut buffer = gst::Buffer::new();
        let target = buffer.make_mut();
        for (is_face, id, [x, y, w, h]) in &regions {
            let kind = if *is_face { face_meta::ROI_TYPE } else { "car" };
            VideoRegionOfInterestMeta::add(target, kind, (*x, *y, *w, *h)).set_id(*id);
        }
        let faces = face_meta::claim(target);
        let ids: HashSet<i32> = faces.iter().map(|f| f.id).collect();
        prop_assert_eq!(faces.len(), regions.iter().filter(|r| r.0).count());
        prop_assert_eq!(ids.len(), faces.len());
        prop_assert!(ids.iter().all(|id| *id > 0));
        prop_assert!(regions.iter().all(|(is_face, id, _)| *is_face || !ids.contains(id)));
        prop_assert_eq!(face_meta::claim(target), faces);
    }
}
