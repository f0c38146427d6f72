//! A real model in ONNX Runtime: what `session.rs` does by hand.

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
