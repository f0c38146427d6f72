//! A real model in ONNX Runtime: tests the unsafe code of `session.rs`.

use face_core::model::{MOST_INPUT_PIXELS, Model};
use face_core::session::{self, Options, Runner};

#[test]
fn a_runner_gives_outputs_of_its_shape_again_and_again() {
    let model = Model::find("yunet").expect("`make setup` fetches it");
    let session = session::load(&model, &Options::default()).expect("it loads");
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
fn no_input_is_larger_than_the_limit() {
    let model = Model::find("yunet").expect("`make setup` fetches it");
    let session = session::load(&model, &Options::default()).expect("it loads");
    let error = Runner::new(&session, [1, 3, 32, MOST_INPUT_PIXELS]).err();
    let error = error.expect("refused").to_string();
    assert!(error.contains("33554432"), "{error}");
}

/// A protobuf field that holds bytes.
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

/// A model of a few hundred bytes that repeats its input a million times. (Field numbers:
/// `onnx.proto`.)
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
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sface.json");
    let text = std::fs::read_to_string(text);
    let mut text: serde_json::Value =
        serde_json::from_str(&text.expect("committed")).expect("valid");
    text["input"]["name"] = "x".into();
    text.as_object_mut().expect("an object").remove("source");
    std::fs::write(weights.with_extension("json"), text.to_string()).expect("writable");
    let model = Model::open(&weights).expect("a descriptor");
    let error = session::load(&model, &Options::default()).err();
    let error = error.expect("150 GB of output").to_string();
    assert!(error.contains("the limit is"), "{error}");
}
