//! Recognition models of other shapes than SFace's, by descriptor: made graphs that pass their input
//! on, so that every number which arrives can be compared.

use face_core::align::{Chips, chip_runner};
use face_core::model::{Model, standardise};
use face_core::session::{self, Options};
use face_core::still;
use face_gallery::normalised;
use face_meta::Face;
use face_meta::geometry::{Landmarks, Point};
use face_tests::refusal::Models;
use face_tests::{Picture, init, made, run_picture};
use serde_json::Value;

const POINTS: [&str; 5] = ["right_eye", "left_eye", "nose", "right_mouth", "left_mouth"];

/// Where the chip lies on the picture.
const AT: (u32, u32) = (21, 13);

/// A picture in which no two pixels near each other are equal.
fn picture() -> Picture {
    let (width, height) = (200, 190);
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            data.extend([(x * 7 + y) % 256, (x + y * 5) % 256, (x * y) % 256].map(|v| v as u8));
        }
    }
    Picture {
        width,
        height,
        data,
    }
}

/// The landmarks with which the chip is an unchanged part of the picture.
fn landmarks(descriptor: &Value) -> Landmarks {
    POINTS.map(|name| {
        let point = &descriptor["alignment"]["template"][name];
        let number = |i: usize| point[i].as_f64().expect("a number");
        Point::new(number(0) + f64::from(AT.0), number(1) + f64::from(AT.1))
    })
}

/// The picture's value at the pixel (x, y) of the chip.
fn value(picture: &Picture, x: u32, y: u32, channel: usize) -> f32 {
    let pixel = ((AT.1 + y) * picture.width + AT.0 + x) as usize;
    picture.data[3 * pixel + channel].into()
}

/// What arrives at a graph that takes `side` x `side` pixels, all of it.
fn arrives(descriptor: &Value, graph: &[u8]) -> Vec<f32> {
    init();
    let models = Models::default();
    let path = models.written("made", descriptor, graph);
    let model = Model::find(&path).expect("a model");
    let session = session::load(&model, &Options::default()).expect("it loads");
    let mut runner = chip_runner(&session).expect("it runs");
    let picture = picture();
    let size = (picture.width, picture.height);
    let (buffer, info) = still::frame(&picture.data, size).expect("a frame");
    let frame = face_core::frame::map(&buffer, &info).expect("readable");
    let face = Face {
        landmarks: Some(landmarks(descriptor)),
        ..Face::default()
    };
    let mut chips = Chips::default();
    assert!(chips.fill(&frame, &face, &mut runner).expect("readable"));
    runner.run().expect("it runs");
    runner.only_output().expect("one output").to_vec()
}

#[track_caller]
fn same(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "number {i}: {found}, not {expected}"
        );
    }
}

#[test]
fn arcface_gets_planes_around_zero() {
    let picture = picture();
    for (scale, color) in [(127.5, "RGB"), (128.0, "BGR")] {
        let mut descriptor = made::like_arcface("made");
        descriptor["input"]["scale"] = vec![1.0 / scale; 3].into();
        descriptor["input"]["color"] = color.into();
        let found = arrives(
            &descriptor,
            &made::graph([1, 3, 112, 112], 1, 3 * 112 * 112),
        );
        let mut expected = Vec::new();
        for plane in 0..3 {
            let channel = if color == "RGB" { plane } else { 2 - plane };
            for (y, x) in (0..112).flat_map(|y| (0..112).map(move |x| (y, x))) {
                expected.push((value(&picture, x, y, channel) - 127.5) / scale as f32);
            }
        }
        same(&found, &expected, 1e-4);
    }
}

#[test]
fn facenet_gets_pixels_with_their_channels_together_and_standardised() {
    let picture = picture();
    let mut expected = Vec::new();
    for (y, x) in (0..160).flat_map(|y| (0..160).map(move |x| (y, x))) {
        expected.extend([0, 1, 2].map(|channel| value(&picture, x, y, channel)));
    }
    let mut descriptor = made::like_facenet("made");
    let all = made::graph([1, 160, 160, 3], 1, 3 * 160 * 160);
    let found = arrives(&descriptor, &all);
    // Computed another way than `standardise` does.
    let count = expected.len() as f64;
    let sum: f64 = expected.iter().map(|v| f64::from(*v)).sum();
    let squares: f64 = expected.iter().map(|v| f64::from(*v).powi(2)).sum();
    let (mean, deviation) = (
        sum / count,
        (squares / count - (sum / count).powi(2)).sqrt(),
    );
    let standard: Vec<f32> = expected
        .iter()
        .map(|v| ((f64::from(*v) - mean) / deviation) as f32)
        .collect();
    same(&found, &standard, 1e-4);

    // One plane per channel, and a scale, which makes no difference to a standardised image.
    let mut planes = descriptor.clone();
    planes["input"]["shape"] = serde_json::json!(["N", 3, 160, 160]);
    planes["input"]["scale"] = vec![0.5; 3].into();
    let found = arrives(&planes, &made::graph([1, 3, 160, 160], 1, 3 * 160 * 160));
    for (i, number) in standard.iter().enumerate() {
        let other = found[i % 3 * 160 * 160 + i / 3];
        assert!(
            (number - other).abs() < 1e-4,
            "number {i}: {other}, not {number}"
        );
    }

    descriptor["input"]["normalization"] = "fixed".into();
    same(&arrives(&descriptor, &all), &expected, 1e-2);
}

#[test]
fn an_image_of_one_colour_becomes_zero() {
    let mut image = [7.5; 12];
    standardise(&mut image);
    assert_eq!(image, [0.0; 12]);
}

#[test]
fn recognizers_of_both_kinds_embed_faces() {
    let models = Models::default();
    let portrait = Picture::open("0-f15-hao-ph.jpg");
    for (name, descriptor, graph) in [
        ("arc", made::like_arcface("arc"), made::arcface_graph()),
        ("net", made::like_facenet("net"), made::facenet_graph()),
    ] {
        let path = models.written(name, &descriptor, &graph);
        let line = format!("facedetector ! facerecognizer model={path} attach-embedding=true");
        let frame = run_picture(&portrait, &line).expect("it runs");
        let [face] = frame.faces.as_slice() else {
            panic!("{} faces", frame.faces.len());
        };
        let embedding = face.embedding.as_ref().expect("attach-embedding is set");
        assert_eq!((&*embedding.model, embedding.values.len()), (name, 512));
        let unit = normalised(&embedding.values).expect("a direction");
        assert!(
            unit.iter()
                .zip(&embedding.values)
                .all(|(a, b)| (a - b).abs() < 1e-5)
        );
        assert!(
            embedding.weight.is_some_and(|weight| weight > 0.3),
            "sharp and frontal"
        );
    }
}

#[test]
fn a_detector_is_not_standardised() {
    let mut descriptor = face_tests::refusal::descriptor("yunet");
    descriptor["input"]["normalization"] = "per-image".into();
    let models = Models::default();
    let path = models.linked("y", &descriptor, "yunet");
    let error = Model::find(&path).expect_err("refused").to_string();
    assert!(error.contains("input.normalization"), "{error}");
}
