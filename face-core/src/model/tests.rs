use std::fs::File;

use super::*;

fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn missing_optional_weights_are_fetched_by_name() {
    let said = remedy(Path::new("/a/models/optional/scrfd.json"));
    assert!(said.contains("make models NAMES=scrfd"), "{said}");
    assert_eq!(remedy(Path::new("/a/models/yunet.json")), REMEDY);
}

#[test]
fn descriptors_in_the_checkout_are_valid() {
    let mut found = 0;
    let folders = ["models", "models/optional"].map(|folder| checkout().join(folder));
    let read = |folder| std::fs::read_dir(folder).expect("models/ is committed");
    for entry in folders.into_iter().flat_map(read) {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let descriptor: Descriptor = serde_json::from_str(&text).expect("valid JSON");
            descriptor.check().expect("a complete descriptor");
            assert_eq!(path.file_stem(), Some(descriptor.name.as_ref()));
            found += 1;
        }
    }
    assert!(found >= 9);
}

#[test]
fn a_missing_model_names_the_places_and_those_there_are() {
    let error = Model::find("no-such-model")
        .expect_err("there is none")
        .to_string();
    let parts = ["no-such-model", "/usr/share/gst-face/models", "`sface`"];
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn files_beyond_the_limits_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = folder.path().join("m.onnx");
    let text = std::fs::read_to_string(checkout().join("models/yunet.json")).expect("committed");
    let large = format!("{text}{}", " ".repeat(LONGEST_DESCRIPTOR as usize));
    std::fs::write(weights.with_extension("json"), large).expect("a writable folder");
    // A sparse file takes no room.
    let file = File::create(&weights).expect("a writable folder");
    file.set_len(LARGEST_WEIGHTS + 1).expect("a hole");
    let error = Model::open(&weights).expect_err("too long").to_string();
    assert!(
        error.contains("m.json: longer than 1048576 bytes"),
        "{error}"
    );
    std::fs::write(weights.with_extension("json"), text).expect("a writable folder");
    let model = Model::open(&weights).expect("its weights are not read yet");
    let error = model.read_unchecked().expect_err("too long").to_string();
    assert!(
        error.contains("m.onnx: longer than 2147483648 bytes"),
        "{error}"
    );
}

#[test]
fn inputs_beyond_the_limits_are_refused() {
    let text = std::fs::read_to_string(checkout().join("models/sface.json")).expect("committed");
    for (shape, part) in [
        (r#"["N", 3, 8192, 8192]"#, "33554432 pixels"),
        (r#"["N", 3, 8193, 1]"#, "1..=8192"),
        (r#"["N", 3, 0, 112]"#, "1..=8192"),
        (r#"[1000000, 3, 112, 112]"#, "the batch, must be 1"),
        (r#"["N", 4, 112, 112]"#, "must be 3"),
    ] {
        let changed = text.replace(r#"["N", 3, 112, 112]"#, shape);
        let error = Descriptor::parse(&changed).expect_err(shape);
        assert!(error.contains(part), "{shape}: {error}");
    }
    let long = text.replace(r#"["N", 3"#, &format!(r#"["{}", 3"#, "N".repeat(257)));
    let error = Descriptor::parse(&long).expect_err("a long name");
    assert!(error.contains("longer than 256 bytes"), "{error}");
    Descriptor::parse(&text).expect("as it was");
}

#[test]
fn misspelt_fields_are_refused() {
    let text = std::fs::read_to_string(checkout().join("models/yunet.json")).expect("committed");
    let misspelt = text.replace("\"decoder\"", "\"decodr\"");
    let error = serde_json::from_str::<Descriptor>(&misspelt).expect_err("unknown field");
    assert!(error.to_string().contains("decodr"), "{error}");
}
