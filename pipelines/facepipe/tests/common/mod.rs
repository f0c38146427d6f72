//! Helpers shared by the program's tests.

pub mod live;
pub mod mjpeg;

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// Frames of `single_face.mp4`.
pub const FRAMES: usize = 72;

pub fn media(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../media")
        .join(name);
    assert!(
        path.is_file(),
        "{} is missing; run `make setup`",
        path.display()
    );
    path
}

pub fn facepipe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facepipe"));
    // The elements are linked in.
    command.env_remove("GST_PLUGIN_PATH").stdin(Stdio::null());
    command
}

pub fn run(command: &mut Command) -> Output {
    command.output().expect("facepipe starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}\n{}",
        stdout(output),
        stderr(output)
    );
}

/// The bytes of a JPEG that is stored as `picture` and tells this EXIF orientation.
pub fn jpeg_with_orientation(picture: &image::DynamicImage, orientation: u8) -> Vec<u8> {
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let written = picture.write_to(&mut jpeg, image::ImageFormat::Jpeg);
    written.expect("an encoder");
    let jpeg = jpeg.into_inner();
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let head = [0xff, 0xe1, 0, exif.len() as u8 + 2];
    [&jpeg[..2], &head, &exif, &jpeg[2..]].concat()
}

/// The bytes of a TIFF for print, in CMYK.
pub fn cmyk_tiff(picture: &image::DynamicImage) -> Vec<u8> {
    let rgb = picture.to_rgb8();
    let cmyk: Vec<u8> = rgb
        .pixels()
        .flat_map(|pixel| {
            let [c, m, y] = pixel.0.map(|value| 255 - value);
            [c, m, y, 0]
        })
        .collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).expect("writable");
    let (width, height) = rgb.dimensions();
    let written = encoder.write_image::<tiff::encoder::colortype::CMYK8>(width, height, &cmyk);
    written.expect("an encoder");
    bytes.into_inner()
}

/// How a picture has to be stored so that it is upright with this EXIF orientation.
pub fn stored(upright: &image::DynamicImage, orientation: u8) -> image::DynamicImage {
    match orientation {
        2 => upright.fliph(),
        3 => upright.rotate180(),
        4 => upright.flipv(),
        5 => upright.rotate90().fliph(),
        6 => upright.rotate270(),
        7 => upright.rotate270().fliph(),
        8 => upright.rotate90(),
        _ => upright.clone(),
    }
}

/// The names in a folder, including hidden ones.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("readable")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// A folder with `people`, given as pairs of person and photo.
pub fn people(photos: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (person, photo) in photos {
        let to = folder.path().join("people").join(person);
        fs::create_dir_all(&to).expect("writable");
        fs::copy(media(photo), to.join(photo)).expect("writable");
    }
    folder
}

pub fn enroll(folder: &Path) -> Command {
    let mut command = facepipe();
    command
        .arg("enroll")
        .arg(folder.join("people"))
        .arg("-o")
        .arg(folder.join("g.safetensors"));
    command
}

/// `facepipe analyze INPUTS -o RESULTS`.
pub fn analyze(inputs: &[&Path], results: &Path) -> Command {
    let mut command = facepipe();
    command.arg("analyze").args(inputs).arg("-o").arg(results);
    command
}

/// Those of the JSON lines in `text` that are about frames.
pub fn frame_lines(text: &str) -> Vec<Value> {
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line));
    lines
        .filter(|line: &Value| line["type"] == "frame")
        .collect()
}

/// The frames and the tracks of `faces.jsonl`.
pub fn lines(results: &Path, name: &str) -> (Vec<Value>, Vec<Value>) {
    fs::read_to_string(results.join(name).join("faces.jsonl"))
        .expect("written")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .partition(|line| line["type"] == "frame")
}

/// Copies a media file.
pub fn copy(from: &str, to: &Path) -> PathBuf {
    fs::create_dir_all(to.parent().expect("in a folder")).expect("writable");
    fs::copy(media(from), to).expect("writable");
    to.to_owned()
}

/// Sends a signal to a process.
pub fn signal(process: &Child, signal: i32) {
    // SAFETY: sends a signal to the process that was just started.
    assert_eq!(unsafe { libc::kill(process.id() as i32, signal) }, 0);
}

/// Waits until a process says something on standard error.
pub fn wait_for(process: &mut Child, text: &str) {
    let mut errors = BufReader::new(process.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(
            errors.read_line(&mut line).expect("readable") > 0,
            "it ended"
        );
    }
    process.stderr = Some(errors.into_inner());
}

/// `facepipe live` ends within two seconds, but only on an idle machine.
pub const END: Duration = Duration::from_secs(20);

/// Ends a waiting process: one signal ends it before its deadline of ten seconds.
#[track_caller]
pub fn ends_at_once(mut process: Child) {
    let begun = Instant::now();
    signal(&process, libc::SIGTERM);
    assert_eq!(process.wait().expect("ends").code(), Some(130));
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
}

/// Makes a pipe or, if permitted, a device.
pub fn make_node(path: &Path, mode: u32, device: libc::dev_t) -> bool {
    let path = CString::new(path.to_str().expect("UTF-8")).expect("no zero");
    // SAFETY: the path is a null-terminated string.
    unsafe { libc::mknod(path.as_ptr(), mode | 0o600, device) == 0 }
}

/// Runs a pipeline to its end, to produce an input.
pub fn produce(description: &str) {
    gst::init().expect("GStreamer starts");
    let pipeline = gst::parse::launch(description).expect("a valid pipeline");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let message = pipeline
        .bus()
        .expect("has a bus")
        .timed_pop_filtered(
            gst::ClockTime::from_seconds(60),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        )
        .expect("ends in time");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).expect("stops");
}
