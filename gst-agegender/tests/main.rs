//! Age, gender and expression models of every shape that a descriptor can describe, in ONNX Runtime.

use std::path::{Path, PathBuf};

use face_core::align::Chips;
use face_core::onnx::protobuf::{put_bytes, put_integer};
use face_core::session::Options;
use face_core::stats::Work;
use face_meta::Face;
use face_meta::geometry::Rect;
use gstagegender::estimator::Estimator;
use gstagegender::expression::Classifier;
use gstagegender::summary::Estimate;
use serde_json::{Value, json};

/// A protobuf message, field by field. (Field numbers: `onnx.proto`.)
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(mut self, number: u32, payload: impl AsRef<[u8]>) -> Self {
        put_bytes(&mut self.0, number, payload.as_ref());
        self
    }

    fn number(mut self, number: u32, value: u64) -> Self {
        put_integer(&mut self.0, number, value);
        self
    }
}

fn floats(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let mut tensor = Message::default();
    for dim in dims {
        tensor = tensor.number(1, *dim);
    }
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor.number(2, 1).bytes(8, name).bytes(9, data).0
}

fn value(name: &str, dims: &[u64]) -> Vec<u8> {
    let shape = dims.iter().fold(Message::default(), |shape, dim| {
        shape.bytes(1, Message::default().number(1, *dim).0)
    });
    let tensor = Message::default().number(1, 1).bytes(2, shape.0).0;
    let kind = Message::default().bytes(1, tensor).0;
    Message::default().bytes(1, name).bytes(2, kind).0
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs = inputs
        .iter()
        .fold(Message::default(), |node, input| node.bytes(1, input));
    inputs.bytes(2, output).bytes(4, op).0
}

/// A model of the kind of DEX (Rothe et al. 2015): a picture in, softmaxes of some classes out. The
/// mean of the red channel, times the slope, is added to the logits of each output.
fn model(side: u64, outputs: &[(&str, &[f32], &[f32])]) -> Vec<u8> {
    let mut graph = Message::default()
        .bytes(1, node("GlobalAveragePool", &["x"], "pooled"))
        .bytes(1, node("Flatten", &["pooled"], "means"));
    for (name, logits, slope) in outputs {
        let [kernel, bias, sum] = ["kernel", "bias", "sum"].map(|part| format!("{name}/{part}"));
        let classes = logits.len() as u64;
        let mut weights = slope.to_vec();
        weights.resize(3 * logits.len(), 0.0);
        graph = graph
            .bytes(1, node("Gemm", &["means", &kernel, &bias], &sum))
            .bytes(1, node("Softmax", &[&sum], name))
            .bytes(5, floats(&kernel, &[3, classes], &weights))
            .bytes(5, floats(&bias, &[classes], logits));
    }
    graph = graph
        .bytes(2, "made")
        .bytes(11, value("x", &[1, 3, side, side]));
    for (name, logits, _) in outputs {
        graph = graph.bytes(12, value(name, &[1, logits.len() as u64]));
    }
    let operators = Message::default().bytes(1, "").number(2, 13).0;
    Message::default()
        .number(1, 7)
        .bytes(7, graph.0)
        .bytes(8, operators)
        .0
}

/// Writes a model and its descriptor.
fn write(folder: &Path, weights: &[u8], descriptor: &Value) -> PathBuf {
    let path = folder.join("made.onnx");
    std::fs::write(&path, weights).expect("a writable folder");
    std::fs::write(path.with_extension("json"), descriptor.to_string()).expect("writable");
    path
}

fn descriptor(task: &str, decoder: &str, side: u64, more: Value) -> Value {
    let mut descriptor = json!({
        "name": "made", "task": task, "decoder": decoder,
        "input": {
            "name": "x", "shape": ["N", 3, side, side], "color": "RGB",
            "mean": [0, 0, 0], "scale": [1, 1, 1]
        },
        "alignment": {"box": 1.0},
    });
    let fields = descriptor.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    descriptor
}

/// Calls `look` with a frame of one colour and a face in its middle.
fn on_frame<T>(red: u8, look: impl FnOnce(&face_core::frame::ReadFrame, &Face) -> T) -> T {
    gst::init().expect("GStreamer starts");
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 64, 64)
        .build()
        .expect("a common format");
    let buffer = gst::Buffer::from_slice([red, 0, 0].repeat(64 * 64));
    let frame = face_core::frame::map(&buffer, &info).expect("a whole frame");
    let face = Face {
        rect: Rect::new(16.0, 16.0, 32.0, 32.0),
        ..Default::default()
    };
    look(&frame, &face)
}

fn estimate(path: &Path, red: u8) -> Result<Option<Estimate>, face_core::Error> {
    let path = path.to_str().expect("UTF-8");
    let mut estimator = Estimator::new(path, &Options::default())?;
    on_frame(red, |frame, face| {
        estimator.estimate(&mut Chips::default(), frame, face, &mut Work::default())
    })
}

/// Logits that make class `class` of `classes` all but certain.
fn peak(classes: usize, class: usize) -> Vec<f32> {
    let mut logits = vec![0.0; classes];
    logits[class] = 40.0;
    logits
}

#[test]
fn dex_with_101_classes_for_age_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let values: Vec<u32> = (0..=100).collect();
    let weights = model(224, &[("prob", &peak(101, 42), &[0.0; 101])]);
    let more = json!({"values": values, "age_curve": [[0, 0], [40, 30], [50, 50]]});
    let path = write(
        folder.path(),
        &weights,
        &descriptor("age", "expectation", 224, more),
    );
    let found = estimate(&path, 0).expect("it runs").expect("a face");
    let age = found.age.expect("an age");
    assert!((age.years - 34.0).abs() < 1e-3, "42 on the curve: {age:?}");
    assert!(age.deviation < 1e-3 && age.most.is_none() && found.gender.is_none());
}

#[test]
fn dex_for_age_and_gender_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let values: Vec<u32> = (0..=100).collect();
    // Red makes male.
    let weights = model(
        64,
        &[
            ("pred_age", &peak(101, 30), &[0.0; 101]),
            ("pred_gender", &[0.5, -0.5], &[0.0, 0.01]),
        ],
    );
    let more = json!({
        "values": values, "max_age_deviation": 9, "labels": ["female", "male"],
        "outputs": {"age": "pred_age", "gender": "pred_gender"},
        "gender_logistic": {"slope": 2, "offset": 0.25}
    });
    let text = descriptor("age-gender", "age-gender", 64, more);
    let path = write(folder.path(), &weights, &text);
    for (red, logit) in [(0, -1.0), (200, 1.0)] {
        let found = estimate(&path, red).expect("it runs").expect("a face");
        let age = found.age.expect("an age");
        assert!((age.years - 30.0).abs() < 1e-3 && age.most == Some(9.0));
        let gender = found.gender.expect("a gender");
        assert_eq!(gender.labels, ["female", "male"]);
        assert!(
            (gender.logits[1] - (2.0 * logit + 0.25)).abs() < 1e-3,
            "{gender:?}"
        );
    }
    // With another number of classes than the descriptor has.
    let weights = model(
        64,
        &[
            ("pred_age", &peak(100, 30), &[0.0; 100]),
            ("pred_gender", &[0.5, -0.5], &[0.0, 0.01]),
        ],
    );
    let path = write(folder.path(), &weights, &text);
    let error = estimate(&path, 0).expect_err("it does not fit").to_string();
    assert!(error.contains("`pred_age` of shape [1, 101]"), "{error}");
}

#[test]
fn an_expression_is_the_mean_with_the_mirror_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = model(48, &[("y", &[0.0, 0.0], &[0.0, 0.04])]);
    let more = json!({"labels": ["neutral", "happy"], "temperature": 2});
    let path = write(
        folder.path(),
        &weights,
        &descriptor("expression", "classes", 48, more.clone()),
    );
    let name = path.to_str().expect("UTF-8");
    let mut classifier = Classifier::new(name, &Options::default()).expect("it loads");
    let mut work = Work::default();
    let found = on_frame(100, |frame, face| {
        classifier.classify(&mut Chips::default(), frame, face, &mut work)
    });
    let found = found.expect("it runs").expect("a face");
    // A logit of 4, halved by the temperature.
    assert!(
        (found[1] - 1.0 / (1.0 + (-2f64).exp())).abs() < 1e-3,
        "{found:?}"
    );
    assert_eq!(work.inferences, 2);

    let three = json!({"labels": ["neutral", "happy", "sad"]});
    for (task, decoder, more, part) in [
        ("expression", "classes", &three, "correct the 3 `labels`"),
        ("expression", "x", &more, "no decoder `x`"),
        ("gender", "classes", &more, "is for gender"),
    ] {
        let path = write(
            folder.path(),
            &weights,
            &descriptor(task, decoder, 48, more.clone()),
        );
        let error = Classifier::new(path.to_str().expect("UTF-8"), &Options::default());
        let error = error.err().expect("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_missing_optional_model_says_how_to_fetch_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = json!({
        "labels": ["neutral", "happy"],
        "source": {"registry": "npm", "package": "made@1.0.0", "sha256": "0".repeat(64)}
    });
    let path = write(
        folder.path(),
        b"",
        &descriptor("expression", "classes", 48, more),
    );
    std::fs::remove_file(&path).expect("just written");
    // A process of its own, since the search path is a variable of the process.
    let text = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "--ignored",
            "prints_what_is_missing",
            "--nocapture",
        ])
        .env("GST_FACE_MODEL_PATH", folder.path())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("run `make models NAMES=made`"), "{text}");
}

#[test]
#[ignore = "the test above runs it"]
fn prints_what_is_missing() {
    let error = Classifier::new("made", &Options::default()).err();
    println!("{}", error.map(|e| e.to_string()).unwrap_or_default());
}
