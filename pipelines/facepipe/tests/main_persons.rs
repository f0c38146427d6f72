//! Measures how `facepipe analyze --main-persons` affects the names in a video with known people.

use std::fs;
use std::path::{Path, PathBuf};

use gst::prelude::*;
use serde_json::Value;

use crate::common::{analyze, assert_code, copy, lines, media, names, run};

/// The people in the panes of the mosaic, from left to right.
const PANES: [&str; 3] = ["wolfgang", "selfie", "portrait"];
const PANE: f64 = 640.0;

/// Writes a video of three people side by side, scaled from a width of 1920 pixels to `width`: two
/// clips, and a portrait that moves through its pane.
fn mosaic(width: u32, to: &Path) {
    let clip = |name: &str| {
        format!(
            "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale ! \
             video/x-raw,width=640,height=360 ! queue",
            media(name).display()
        )
    };
    let description = format!(
        "compositor name=mix sink_0::xpos=0 sink_1::xpos=640 sink_2::xpos=1290 ! \
         video/x-raw,format=I420,width=1920,height=360,framerate=30/1 ! queue ! videoscale ! \
         video/x-raw,width={width},height={} ! x264enc speed-preset=veryfast ! mp4mux ! \
         filesink location=\"{}\" {} ! mix.sink_0  {} ! mix.sink_1 \
         filesrc location=\"{}\" ! jpegdec ! videoconvert ! videoscale ! \
         video/x-raw,width=360,height=360 ! imagefreeze num-buffers=590 ! \
         video/x-raw,framerate=30/1 ! queue ! mix.sink_2",
        width * 360 / 1920,
        to.display(),
        clip("WolfgangLanger_Pexels.mp4"),
        clip("single_face.mp4"),
        media("0-f15-hao-ph.jpg").display(),
    );
    let pipeline = gst::parse::launch(&description).expect("a valid pipeline");
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .expect("several elements");
    let pad = pipeline
        .by_name("mix")
        .and_then(|mix| mix.static_pad("sink_2"))
        .expect("requested above");
    pad.add_probe(gst::PadProbeType::BUFFER, |pad, info| {
        if let Some(pts) = info.buffer().and_then(|b| b.pts()) {
            let phase = pts.nseconds() as f64 / 4e9 * std::f64::consts::TAU;
            pad.set_property("xpos", 1290 + (100.0 - 100.0 * phase.cos()) as i32);
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).expect("starts");
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().expect("has a bus");
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(300), &kinds);
    pipeline.set_state(gst::State::Null).expect("stops");
    assert!(message.is_some_and(|m| m.type_() == gst::MessageType::Eos));
}

/// A gallery with one photo of each of the three, the faces of all other photos, and each person in
/// those.
fn crowd(folder: &Path, without: Option<&str>) -> PathBuf {
    use face_gallery::{Gallery, ModelId, Row};
    let photos = folder.join("photos");
    if !photos.exists() {
        fs::create_dir_all(&photos).expect("writable");
        // An early frame of the clip.
        let frame = photos.join("wolfgang.png");
        let description = format!(
            "filesrc location=\"{}\" ! decodebin ! identity eos-after=8 ! videoconvert ! \
             pngenc snapshot=false ! multifilesink location=\"{}\"",
            media("WolfgangLanger_Pexels.mp4").display(),
            frame.display()
        );
        let pipeline = gst::parse::launch(&description).expect("a valid pipeline");
        pipeline.set_state(gst::State::Playing).expect("starts");
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let bus = pipeline.bus().expect("has a bus");
        let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
        pipeline.set_state(gst::State::Null).expect("stops");
        assert!(message.is_some_and(|m| m.type_() == gst::MessageType::Eos));
        copy("single_face.jpg", &photos.join("selfie.jpg"));
        let portrait = image::open(media("0-f15-hao-ph.jpg")).expect("a photo");
        portrait
            .fliph()
            .save(photos.join("portrait.jpg"))
            .expect("writable");
        for decoy in [
            "t1.jpg",
            "multi_face.jpg",
            "Tom_Hanks_54745.png",
            "0-f1-su-ph.jpg",
            "15-f13-anc-ph.jpg",
            "45-m7-di-ph.jpg",
            "BWPictureHuman.jpg",
            "mask_white.jpg",
        ] {
            copy(decoy, &photos.join(decoy));
        }
        assert_code(&run(&mut analyze(&[&photos], &folder.join("embedded"))), 0);
    }
    let mut gallery: Option<Gallery> = None;
    for name in names(&folder.join("embedded")) {
        let path = folder
            .join("embedded")
            .join(&name)
            .join("tracks.safetensors");
        let bytes = fs::read(path).expect("written");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("valid");
        let metadata = header.metadata().as_ref().expect("metadata");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        let tensor = file.tensor("embeddings").expect("there");
        let gallery = gallery.get_or_insert_with(|| {
            let model = ModelId {
                name: metadata["model"].clone(),
                sha256: metadata["model-sha256"].clone(),
            };
            Gallery::new(model, tensor.shape()[1])
        });
        for (i, row) in tensor
            .data()
            .chunks_exact(4 * tensor.shape()[1])
            .enumerate()
        {
            let numbers = row.as_chunks::<4>().0.iter();
            let embedding: Vec<f32> = numbers.map(|b| f32::from_le_bytes(*b)).collect();
            let person = match PANES.contains(&name.as_str()) {
                true => name.clone(),
                false => format!("{name} {i}"),
            };
            if without != Some(&person) {
                let source = name.clone();
                assert!(gallery.push(Row { person, source }, &embedding));
            }
        }
    }
    let path = folder.join(format!(
        "without-{}.safetensors",
        without.unwrap_or("nobody")
    ));
    let gallery = gallery.expect("some photos");
    gallery.write(&path).expect("writable");
    path
}

/// The number of detected faces in all panes, and of those with the right name.
fn score(frames: &[Value], width: u32, without: Option<&str>) -> (usize, usize) {
    let pane = PANE * f64::from(width) / 1920.0;
    let mut scores = (0, 0);
    for face in frames
        .iter()
        .flat_map(|f| f["faces"].as_array().expect("a list"))
    {
        if face["predicted"] == true {
            continue;
        }
        let number = |i: usize| face["box"][i].as_f64().expect("a box");
        let person = PANES[((number(0) + number(2) / 2.0) / pane).clamp(0.0, 2.0) as usize];
        let expected = if without == Some(person) {
            "Unknown"
        } else {
            person
        };
        scores.0 += 1;
        scores.1 += usize::from(face["name"] == expected);
    }
    scores
}

/// Precision by gallery, smoothing and --main-persons. Prints the table of docs/facepipe.md.
#[test]
fn main_persons_spoil_no_names() {
    gst::init().expect("GStreamer starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let video = folder.path().join("mosaic.mp4");
    mosaic(640, &video);
    println!("not enrolled, smoothing, main persons: right of detected, precision");
    for without in [None, Some("wolfgang")] {
        let gallery = crowd(folder.path(), without);
        for smoothing in ["track", "none"] {
            let precision = |main: Option<&str>| {
                let results = folder.path().join("out");
                let mut command = analyze(&[&video], &results);
                command.arg("--gallery").arg(&gallery);
                // Every second frame is enough for counting.
                command.args([
                    "--no-age-gender",
                    "--interval",
                    "2",
                    "--smoothing",
                    smoothing,
                ]);
                if let Some(main) = main {
                    command.args(["--main-persons", main]);
                }
                assert_code(&run(&mut command), 0);
                let (frames, _) = lines(&results, "mosaic");
                let (all, right) = score(&frames, 640, without);
                let precision = right as f64 / all as f64;
                println!(
                    "{} {smoothing} {}: {right} of {all}, {precision:.4}",
                    without.unwrap_or("-"),
                    main.unwrap_or("-"),
                );
                precision
            };
            let all = precision(None);
            assert!(all >= if smoothing == "track" { 0.99 } else { 0.9 });
            assert!(precision(Some("3")) >= all);
            // One of the three is on screen for less than that.
            let fewer = precision(Some("20%"));
            assert!(fewer < all && fewer > 0.8);
        }
    }
}
