//! Models, descriptors and settings that cannot be used: an error that gives file, cause and
//! remedy, a clean stop, and an element that runs once the problem is fixed.

use face_meta::META_NAME;
use face_tests::Picture;
use face_tests::feed::{Feed, add_region, at};
use face_tests::refusal::{Models, descriptor, refuses, weights};
use serde_json::{Value, json};

/// The inference elements, each with a suitable model and an unsuitable one.
const ELEMENTS: [(&str, &str, &str); 3] = [
    ("facedetector", "yunet", "sface"),
    ("facerecognizer", "sface", "yunet"),
    ("faceagegender", "dlib-age", "yunet"),
];

fn refuses_model(element: &str, model: &str, says: &[&str]) {
    let (_, good, _) = ELEMENTS
        .into_iter()
        .find(|(name, ..)| *name == element)
        .expect("one of them");
    refuses(element, &[("model", model)], says, &[("model", good)]);
}

#[test]
fn models_that_are_missing() {
    let models = Models::default();
    let alone = models.folder().join("alone.onnx");
    std::fs::copy(weights("yunet"), &alone).expect("writable");
    let alone = alone.to_str().expect("UTF-8");
    let widowed = models.put("widowed", &descriptor("yunet").to_string());
    let folder = models.put("folder", &descriptor("yunet").to_string());
    std::fs::create_dir(&folder).expect("writable");
    for (element, _, other) in ELEMENTS {
        let nope = [
            "`nope`",
            "`yunet`",
            "/usr/share/gst-face/models",
            "GST_FACE_MODEL_PATH",
        ];
        refuses_model(element, "nope", &nope);
        refuses_model(element, "/no/such.onnx", &["/no/such.onnx", "make setup"]);
        refuses_model(element, "", &["`model` is empty"]);
        refuses_model(element, alone, &[alone, "alone.json", "docs/models.md"]);
        refuses_model(element, &widowed, &[&widowed, "make setup"]);
        refuses_model(element, &folder, &[&folder, "make setup"]);
        let path = format!("{other}.onnx");
        refuses_model(element, other, &[other, &path, "is for", "set `model` to"]);
    }
}

#[test]
fn descriptors_that_are_wrong() {
    let models = Models::default();
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut value = descriptor("yunet");
        edit(&mut value);
        value.to_string()
    };
    let table: [(&str, String, &[&str]); 8] = [
        (
            "empty",
            String::new(),
            &["not a model descriptor", "docs/models.md"],
        ),
        (
            "junk",
            "{\"name\": \"x\",".into(),
            &["not a model descriptor", "line 1"],
        ),
        (
            "misspelt",
            edited(&|v| v["colour"] = json!("BGR")),
            &["unknown field `colour`", "expected one of"],
        ),
        (
            "incomplete",
            edited(&|v| drop(v.as_object_mut().map(|o| o.remove("decoder")))),
            &["missing field `decoder`", "docs/models.md"],
        ),
        (
            "channels",
            edited(&|v| v["input"]["shape"] = json!([1, 4, "H", "W"])),
            &["channels, must be 3"],
        ),
        (
            "huge",
            edited(&|v| v["input"]["shape"] = json!([1, 3, 4294967295u32, 640])),
            &["height and width must lie in 1..=8192"],
        ),
        (
            "decoder",
            edited(&|v| v["decoder"] = json!("yolo")),
            &["no detection decoder `yolo`", "yunet, centerface"],
        ),
        (
            "task",
            edited(&|v| v["task"] = json!("segmentation")),
            &["unknown variant `segmentation`", "detection"],
        ),
    ];
    for (name, text, says) in table {
        let path = models.put(name, &text);
        std::os::unix::fs::symlink(weights("yunet"), &path).expect("writable");
        let file = format!("{name}.json");
        refuses_model("facedetector", &path, &[&[file.as_str()], says].concat());
    }
}

#[test]
fn weights_that_are_damaged() {
    let models = Models::default();
    let whole = std::fs::read(weights("yunet")).expect("readable");
    let mut flipped = whole.clone();
    // In the header, so that the file is no longer a model.
    flipped[0] ^= 0xff;
    let variants: [(&str, &[u8]); 5] = [
        ("empty", &[]),
        ("header", &whole[..7]),
        ("half", &whole[..whole.len() / 2]),
        ("flipped", &flipped),
        ("text", b"version https://git-lfs.github.com/spec/v1\n"),
    ];
    let mut with_sum = descriptor("yunet");
    with_sum["source"] = json!({"package": "p==1", "member": "m", "sha256": "8f23".repeat(16)});
    for (name, bytes) in variants {
        let path = models.written(name, &descriptor("yunet"), bytes);
        refuses_model("facedetector", &path, &[&path, "fetch the file again"]);
        let path = models.written(&format!("{name}-sum"), &with_sum, bytes);
        let says = [&path, "damaged", "sha256 is", "8f238f23", "make setup"];
        refuses_model("facedetector", &path, &says);
    }
    // A single bit of a weight. Only the checksum can detect that.
    let mut one = whole.clone();
    let middle = one.len() / 2;
    one[middle] ^= 1;
    with_sum["source"]["sha256"] =
        json!("8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4");
    let path = models.written("bit", &with_sum, &one);
    refuses_model("facedetector", &path, &[&path, "damaged", "make setup"]);
}

/// Whichever bit is wrong: an error or a stream, never a panic or a hang.
#[test]
fn weights_with_any_bit_flipped() {
    let models = Models::default();
    let whole = std::fs::read(weights("yunet")).expect("readable");
    let picture = Picture::open("t1.jpg").resized(320, 222);
    let (mut refused, mut ran) = (0, 0);
    for i in 0..150 {
        // The graph is at the file's beginning and end; weights lie between.
        let place = match i % 3 {
            0 => i * 17,
            1 => whole.len() - 1 - i * 17,
            _ => i * whole.len() / 150,
        };
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (i % 8);
        let path = models.written("flipped", &descriptor("yunet"), &bytes);
        match Feed::new(&format!("facedetector model=\"{path}\""), &picture.caps()) {
            Err(e) => {
                refused += 1;
                let text = e.to_string();
                assert!(
                    text.contains(&path) || text.contains("descriptor"),
                    "{text}"
                );
                assert!(!text.contains("anicked"), "{text}");
            }
            Ok(feed) => {
                ran += 1;
                feed.show(&picture, 0).expect("passes");
                feed.running.stop();
            }
        }
    }
    println!("{refused} refused, {ran} ran");
    assert!(refused > 10 && ran > 10);
}

#[test]
fn models_that_do_not_fit_their_descriptor() {
    let models = Models::default();
    let edited = |of: &str, edit: &dyn Fn(&mut Value)| {
        let mut value = descriptor(of);
        edit(&mut value);
        value
    };
    let centerface_outputs = |v: &mut Value| {
        v["decoder"] = json!("yunet");
        v["outputs"] = json!({"cls_8": "537", "obj_8": "537", "bbox_8": "538", "kps_8": "540"});
    };
    let table: [(&str, &str, Value, &str, &[&str]); 12] = [
        (
            "facedetector",
            "yunet-as-centerface",
            edited("yunet", &|v| v["decoder"] = json!("centerface")),
            "yunet",
            &[
                "needs an output `heatmap`",
                "cls_8",
                "choose another decoder",
            ],
        ),
        (
            "facedetector",
            "centerface-as-yunet",
            edited("centerface", &|v| {
                v["decoder"] = json!("yunet");
                v["outputs"] = json!({});
            }),
            "centerface",
            &["needs an output `cls_8`", "537", "under `outputs`"],
        ),
        (
            "facedetector",
            "wrong-shapes",
            edited("centerface", &centerface_outputs),
            "centerface",
            &[
                "output `537` of shape",
                "the model gives",
                "another decoder",
            ],
        ),
        (
            "facedetector",
            "input-name",
            edited("yunet", &|v| v["input"]["name"] = json!("image")),
            "yunet",
            &["no input named \"image\"", "[\"input\"]", "`input.name`"],
        ),
        (
            "facedetector",
            "other-weights",
            descriptor("yunet"),
            "sface",
            &["no input named \"input\"", "[\"data\"]"],
        ),
        (
            "facedetector",
            "recognition-model",
            edited("yunet", &|v| v["input"]["name"] = json!("data")),
            "sface",
            &["descriptor"],
        ),
        (
            "facerecognizer",
            "dimensions",
            edited("sface", &|v| v["dimensions"] = json!(512)),
            "sface",
            &["128 dimensions", "512", "correct `dimensions`"],
        ),
        (
            "facerecognizer",
            "size",
            edited("sface", &|v| v["input"]["shape"] = json!(["N", 3, 96, 96])),
            "sface",
            &["descriptor"],
        ),
        (
            "facerecognizer",
            "detection-model",
            edited("sface", &|v| v["input"]["name"] = json!("input")),
            "yunet",
            &["descriptor"],
        ),
        (
            "facerecognizer",
            "unaligned",
            edited("sface", &|v| v["alignment"] = Value::Null),
            "sface",
            &["has no `alignment`"],
        ),
        (
            "faceagegender",
            "values",
            edited("dlib-age", &|v| v["values"] = json!([1, 2, 3])),
            "dlib-age",
            &["81 classes", "correct the 3 `values`"],
        ),
        (
            "faceagegender",
            "labels",
            edited("dlib-gender", &|v| v["labels"] = json!(["a", "b", "c"])),
            "dlib-gender",
            &["2 classes", "correct the 3 `labels`"],
        ),
    ];
    for (element, name, descriptor, weights, says) in table {
        let path = models.linked(name, &descriptor, weights);
        refuses_model(element, &path, &[&[path.as_str()], says].concat());
    }
}

#[test]
fn execution_providers_that_are_not_there() {
    for (element, ..) in ELEMENTS {
        let mended = [("execution-provider", "cpu")];
        for provider in ["cuda", "tensorrt", "openvino"] {
            let says = [provider, "execution-provider=cpu", "ORT_DYLIB_PATH"];
            refuses(element, &[("execution-provider", provider)], &says, &mended);
        }
        let says = ["`nonsense`", "known ones are cpu", "cuda"];
        refuses(
            element,
            &[("execution-provider", "nonsense")],
            &says,
            &mended,
        );
    }
}

#[test]
fn frames_that_are_not_what_their_caps_say() {
    let picture = Picture::open("t1.jpg");
    for element in [
        "facedetector",
        "facerecognizer attach-embedding=true",
        "faceagegender",
    ] {
        for size in [0, 1, 1280 * 886 * 3 - 1] {
            let feed = Feed::new(element, &picture.caps()).expect("starts");
            let mut short = gst::Buffer::with_size(size).expect("memory");
            add_region(&mut short, "face", (10, 10, 100, 100), 0);
            let error = feed.pass(short).expect_err("too short").to_string();
            println!("{element} {size}: {error}");
            assert!(error.contains(&format!("{size} bytes")), "{error}");
            assert!(error.contains("1280x886 RGB"), "{error}");
            feed.running.stop();
        }
        let feed = Feed::bare(element).expect("starts");
        feed.begin();
        feed.segment();
        assert!(feed.push(picture.buffer(at(0))).is_err(), "no caps");
        feed.running.stop();
    }
}

/// All fields of a face's entry, with types that they never have.
fn junk() -> gst::Structure {
    let mut entry = gst::Structure::new_empty("junk");
    entry.set(
        "box",
        gst::Array::new([f64::NAN, f64::INFINITY, -1e300, 1e300]),
    );
    entry.set("landmarks", gst::Array::new([f64::MAX; 10]));
    for name in ["confidence", "age", "gender-confidence", "distance"] {
        entry.set(name, f64::NAN);
    }
    for name in ["name", "gender", "model", "track", "first-seen"] {
        entry.set(name, -1i32);
    }
    entry.set("predicted", "perhaps");
    entry.set("embedding", glib::Bytes::from_static(&[1, 2, 3]));
    entry.set("embedding-model", "sface");
    entry
}

#[test]
fn metadata_that_makes_no_sense() {
    let picture = Picture::open("t1.jpg");
    let stages = "facedetector ! facetracker ! facerecognizer attach-embedding=true interval=0 \
        ! faceagegender interval=0";
    let places = [
        (0, 0, u32::MAX, u32::MAX),
        (u32::MAX, u32::MAX, u32::MAX, u32::MAX),
        (u32::MAX, 5, 10, 10),
        (0, 0, 0, 0),
        (100, 100, 0, 50),
        (2000, 2000, 10, 10),
        (463, 266, 113, 150),
        (0, 0, 1, 100_000),
    ];
    for elements in [
        stages,
        &stages.replace("facedetector ! ", ""),
        &format!("{stages} ! facemetaoverlay"),
    ] {
        let feed = Feed::new(elements, &picture.caps()).expect("starts");
        for index in 0..4 {
            let mut buffer = picture.buffer(at(index));
            for (place, id) in places.into_iter().zip(1..) {
                add_region(&mut buffer, "face", place, id);
            }
            face_meta::register();
            let writable = buffer.get_mut().expect("only one owner");
            let mut custom = gst::meta::CustomMeta::add(writable, META_NAME).expect("registered");
            let structure = custom.mut_structure();
            for id in 1..4 {
                structure.set(format!("face-{id}"), junk());
            }
            structure.set("face-4", "no structure");
            structure.set("face-99999999999", junk());
            structure.set("examined", 3.5f64);
            let frame = feed.pass(buffer).expect("the stream goes on");
            assert!(frame.faces.len() >= places.len());
            for face in &frame.faces {
                assert!(face.age.is_none_or(f64::is_finite));
                assert!(face.rect.is_finite());
            }
            // The good face among all of this is processed as usual.
            let face = &frame.faces[6];
            assert!(face.age.is_some() && face.embedding.is_some());
        }
        assert!(feed.eos());
    }
}
