//! A real model in ONNX Runtime: what `session.rs` does by hand.

use face_core::model::{MOST_INPUT_PIXELS, Model};
use face_core::onnx::heads::{self, YUNET};
use face_core::onnx::{self, OnnxError};
use face_core::session::{self, Options, Runner};

/// Outputs one by one, as published.
fn separate() -> Options {
    Options {
        merge_heads: false,
        ..Default::default()
    }
}

#[test]
fn a_runner_gives_outputs_of_its_shape_again_and_again() {
    let model = Model::find("yunet").expect("`make setup` fetches it");
    let session = session::load(&model, &separate()).expect("it loads");
    let mut small = Runner::new(&session, [1, 3, 64, 96]).expect("it runs");
    let mut large = Runner::new(&session, [1, 3, 96, 128]).expect("it runs");
    for turn in 0..3 {
        let runner = if turn == 1 { &mut large } else { &mut small };
        let [_, _, height, width] = runner.shape();
        runner.input().fill(128.0);
        runner.run().expect("it runs");
        let cells = (height / 8) * (width / 8);
        let scores = runner.output_of("cls_8", &[1, cells, 1]).expect("YuNet's");
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
        runner
            .output_of("cls_8", &[1, cells, 2])
            .expect_err("another shape");
        runner.output("no-such-output").expect_err("another name");
    }
}

#[test]
fn a_head_has_the_numbers_of_its_parts() {
    let model = Model::find("yunet").expect("`make setup` fetches it");
    let shape = [1, 3, 96, 160];
    let mut runners = [Options::default(), separate()].map(|options| {
        let session = session::load(&model, &options).expect("it loads");
        let mut runner = Runner::new(&session, shape).expect("it runs");
        // Something like texture.
        for (i, value) in runner.input().iter_mut().enumerate() {
            *value = ((i * 7919 % 256) as f32 + (i / 40 % 256) as f32) / 2.0;
        }
        runner.run().expect("it runs");
        runner
    });
    let [merged, separate] = &mut runners;
    assert!(!merged.has_output("cls_8") && !separate.has_output("head_8"));
    for (head, stride) in YUNET.into_iter().zip([8, 16, 32]) {
        let (rows, columns) = (shape[2] / stride, shape[3] / stride);
        let cells = rows * columns;
        let merged = merged
            .output_of(head.output, &[1, 16, rows, columns])
            .expect("merged");
        let mut channel = 0;
        for part in head.parts {
            let alone = separate
                .output_of(part.output, &[1, cells, part.channels])
                .expect("as published");
            for (i, &alone) in alone.iter().enumerate() {
                let value = merged[(channel + i % part.channels) * cells + i / part.channels];
                let value = match part.sigmoid {
                    true => 1.0 / (1.0 + (-value).exp()),
                    false => value,
                };
                assert!(
                    (value - alone).abs() < 1e-5 * alone.abs().max(1.0),
                    "{value} {alone}"
                );
            }
            channel += part.channels;
        }
    }
}

#[test]
fn only_what_is_understood_is_merged() {
    let model = Model::find("yunet").expect("`make setup` fetches it");
    let bytes = model.read_unchecked().expect("readable");
    let input = &model.descriptor.input;
    let adapted = onnx::adapt(&bytes, &input.name, &input.shape).expect("a model");
    let merge = |model: &[u8]| heads::merge(model, &YUNET, str::to_owned);
    let merged = merge(&adapted).expect("well-formed").expect("YuNet");
    assert_eq!(merge(&merged), Ok(None), "it has heads already");
    assert_eq!(heads::merge(&adapted, &YUNET, |_| "x".into()), Ok(None));
    // Every fiftieth byte is changed: it must neither panic nor hang.
    for i in (0..adapted.len()).step_by(50) {
        let mut damaged = adapted.clone();
        damaged[i] ^= 0x41;
        let _ = merge(&damaged);
    }
    assert!(matches!(
        merge(&adapted[..adapted.len() - 1]),
        Err(OnnxError::Malformed(_))
    ));
}

#[test]
fn no_input_is_larger_than_the_limit() {
    let model = Model::find("yunet").expect("`make setup` fetches it");
    let session = session::load(&model, &Options::default()).expect("it loads");
    let error = Runner::new(&session, [1, 3, 32, MOST_INPUT_PIXELS]).err();
    let error = error.expect("refused").to_string();
    assert!(error.contains("33554432"), "{error}");
}

/// A field of a protobuf message that holds bytes.
fn bytes(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = payload.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(payload);
    out
}

/// A field that holds a number below 128.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// A model of some hundred bytes that repeats its input a million times. (Field numbers: `onnx.proto`.)
fn bomb() -> Vec<u8> {
    let dims: Vec<u8> = [1, 3, 112, 112]
        .map(|size| bytes(1, &number(1, size)))
        .concat();
    let tensor = [number(1, 1), bytes(2, &dims)].concat();
    let input = [bytes(1, b"x"), bytes(2, &bytes(1, &tensor))].concat();
    let output = [bytes(1, b"y"), bytes(2, &bytes(1, &number(1, 1)))].concat();
    let repeats: Vec<u8> = [1i64, 100, 100, 100]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let repeats = [
        number(1, 4),
        number(2, 7),
        bytes(8, b"r"),
        bytes(9, &repeats),
    ]
    .concat();
    let node = [
        bytes(1, b"x"),
        bytes(1, b"r"),
        bytes(2, b"y"),
        bytes(4, b"Tile"),
    ]
    .concat();
    let graph = [
        bytes(1, &node),
        bytes(2, b"g"),
        bytes(5, &repeats),
        bytes(11, &input),
        bytes(12, &output),
    ]
    .concat();
    let operators = [bytes(1, b""), number(2, 17)].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &operators)].concat()
}

#[test]
fn outputs_beyond_the_limit_are_refused_before_they_are_computed() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = folder.path().join("bomb.onnx");
    std::fs::write(&weights, bomb()).expect("writable");
    let text = std::fs::read_to_string(face_core::model::checkout().join("models/sface.json"));
    let mut text: serde_json::Value =
        serde_json::from_str(&text.expect("committed")).expect("valid");
    text["input"]["name"] = "x".into();
    text.as_object_mut().expect("an object").remove("source");
    std::fs::write(weights.with_extension("json"), text.to_string()).expect("writable");
    let model = Model::open(&weights).expect("a descriptor");
    let error = session::load(&model, &Options::default()).err();
    let error = error.expect("150 GB of output").to_string();
    assert!(error.contains("numbers are not taken"), "{error}");
}
