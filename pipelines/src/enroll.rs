//! `facepipe enroll`: photos of people, a folder a person, into a gallery.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_core::meta::{self, Face};
use face_core::model::{Model, Task};
use gst::prelude::*;
use gstfacerecog::gallery::{Gallery, ModelId, Row};
use image::imageops;
use image::{DynamicImage, ImageDecoder, ImageReader, Rgb, RgbImage};
use serde::Serialize;

use crate::ui::{self, Progress};
use crate::{Outcome, graph, interrupt, output};

/// Make a gallery of known people from photos
///
/// PEOPLE_DIR holds one folder a person, named after that person, with one photo or more:
///
///   people/Ann/1.jpg
///   people/Ann/holiday.png
///   people/Bob/portrait.webp
///
/// Each photo should show one face. Photos without a face, or with several, are left out and listed
/// at the end. Photos cropped tightly around a face are fine.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The folder with one folder a person; hidden files and folders are skipped
    people_dir: PathBuf,

    /// The gallery to write; an existing one is replaced when all photos are done
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Where a photo shows several faces, take the largest instead of leaving the photo out
    #[arg(long)]
    largest: bool,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,

    /// The model that finds faces: a name, or the path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value = "yunet")]
    detector: String,

    /// The model that tells faces apart: a name, or the path of an .onnx file. Galleries can only be
    /// used with the model they were made by
    #[arg(long, value_name = "MODEL", default_value = "sface")]
    model: String,

    /// What runs the models: cpu, cuda, tensorrt, openvino, …
    #[arg(long, value_name = "PROVIDER", default_value = "cpu")]
    execution_provider: String,
}

/// The longest side given to the detector, and the second try for small faces in large photos.
const INFERENCE_SIZES: [u32; 2] = [640, 1280];

/// A person and the photos in that folder, sorted.
struct Person {
    name: String,
    photos: Vec<PathBuf>,
}

/// Why a photo was left out.
enum Reason {
    Unreadable(String),
    NoFace,
    SeveralFaces(usize),
    NoEmbedding,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "no readable image: {cause}"),
            Self::NoFace => f.write_str("no face found"),
            Self::SeveralFaces(n) => write!(f, "{n} faces; --largest takes the largest"),
            Self::NoEmbedding => f.write_str("the face cannot be aligned for recognition"),
        }
    }
}

/// What became of one person's photos.
#[derive(Serialize)]
struct PersonReport {
    person: String,
    images: usize,
    used: usize,
    left_out: usize,
}

/// A photo that is not in the gallery.
#[derive(Serialize)]
struct LeftOut {
    person: String,
    source: String,
    reason: String,
}

/// The table at the end.
#[derive(Serialize)]
struct Report {
    /// `None` if nothing was written.
    gallery: Option<String>,
    model: String,
    images: usize,
    used: usize,
    people: Vec<PersonReport>,
    left_out: Vec<LeftOut>,
}

pub fn run(args: &Args) -> Result<Outcome> {
    output::check_folder(&args.output)?;
    let people = find_people(&args.people_dir)?;
    let (model, dimensions) = recognition_model(&args.model)?;
    let mut gallery = Gallery::new(model, dimensions);
    let mut embedder = Embedder::start(args)?;

    let Some(mut report) = enroll(args, &people, &mut embedder, &mut gallery)? else {
        eprintln!("enroll: stopped by Ctrl-C, no gallery was written");
        return Ok(Outcome::Interrupted);
    };
    if !gallery.is_empty() {
        gallery.write(&args.output)?;
        report.gallery = Some(args.output.display().to_string());
    }
    print(&report, args.json)?;
    ensure!(
        !gallery.is_empty(),
        "no photo shows a usable face; no gallery was written"
    );
    Ok(if report.left_out.is_empty() {
        Outcome::Done
    } else {
        Outcome::Incomplete
    })
}

/// The identity of the recognition model and the length of its embeddings.
fn recognition_model(name: &str) -> Result<(ModelId, usize)> {
    let model = Model::find(name)?;
    model.expect_task(Task::Recognition)?;
    let (_, sha256) = model.read_weights()?;
    let dimensions = model
        .descriptor
        .dimensions
        .with_context(|| format!("the descriptor of model `{name}` has no `dimensions`"))?;
    Ok((
        ModelId {
            name: model.descriptor.name,
            sha256,
        },
        dimensions,
    ))
}

/// Adds all photos to the gallery; `None` if Ctrl-C came in between.
fn enroll(
    args: &Args,
    people: &[Person],
    embedder: &mut Embedder,
    gallery: &mut Gallery,
) -> Result<Option<Report>> {
    let total: usize = people.iter().map(|p| p.photos.len()).sum();
    let mut progress = Progress::new("enroll", Some(total as u64));
    let mut report = Report {
        gallery: None,
        model: gallery.model.name.clone(),
        images: total,
        used: 0,
        people: Vec::new(),
        left_out: Vec::new(),
    };
    let images = read_ahead(people);
    let mut done = 0;
    for person in people {
        let before = report.left_out.len();
        for photo in &person.photos {
            let source = relative(photo, &args.people_dir);
            progress.update(done, &source);
            if interrupt::requested() {
                return Ok(None);
            }
            let image = images
                .recv()
                .context("the thread that reads photos ended early")?;
            let result = embedder
                .embedding(image, args.largest)
                .with_context(|| format!("{}", photo.display()))?;
            done += 1;
            let row = Row {
                person: person.name.clone(),
                source: source.clone(),
            };
            let reason = match result {
                Ok(embedding) if gallery.push(row, &embedding) => continue,
                Ok(_) => Reason::NoEmbedding,
                Err(reason) => reason,
            };
            report.left_out.push(LeftOut {
                person: person.name.clone(),
                source,
                reason: reason.to_string(),
            });
        }
        let left_out = report.left_out.len() - before;
        report.people.push(PersonReport {
            person: person.name.clone(),
            images: person.photos.len(),
            used: person.photos.len() - left_out,
            left_out,
        });
    }
    report.used = gallery.len();
    Ok(Some(report))
}

fn relative(path: &Path, base: &Path) -> String {
    path.strip_prefix(base)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Prints the report to standard output.
fn print(report: &Report, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string_pretty(report)? + "\n"
    } else {
        readable(report)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}

/// The report as a table and lists.
fn readable(report: &Report) -> String {
    let line = |person: &str, images: usize, used: usize| {
        vec![
            person.to_owned(),
            images.to_string(),
            used.to_string(),
            (images - used).to_string(),
        ]
    };
    let mut rows = vec![
        ["person", "images", "faces used", "left out"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(
        report
            .people
            .iter()
            .map(|p| line(&p.person, p.images, p.used)),
    );
    rows.push(line(
        &ui::count(report.people.len() as u64, "person"),
        report.images,
        report.used,
    ));
    let mut text = ui::table(&rows);
    if !report.left_out.is_empty() {
        text += "\nleft out:\n";
        for photo in &report.left_out {
            text += &format!("  {}: {}\n", photo.source, photo.reason);
        }
    }
    if let Some(gallery) = &report.gallery {
        text += &format!("\ngallery: {gallery} (model {})\n", report.model);
    }
    text
}

// ---- the folders

/// The people in `folder`, sorted by name.
fn find_people(folder: &Path) -> Result<Vec<Person>> {
    let layout = "expected one folder a person, such as PEOPLE_DIR/Ann/photo.jpg";
    ensure!(
        folder.exists(),
        "{} does not exist; {layout}",
        folder.display()
    );
    ensure!(
        folder.is_dir(),
        "{} is no folder; {layout}",
        folder.display()
    );
    let mut people = Vec::new();
    let mut loose = Vec::new();
    for path in visible_entries(folder)? {
        if !path.is_dir() {
            loose.push(path);
            continue;
        }
        let mut photos = Vec::new();
        collect_files(&path, &mut photos)?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        people.push(Person { name, photos });
    }
    if people.iter().all(|p| p.photos.is_empty()) {
        let what = match (loose.len(), people.len()) {
            (0, 0) => "is empty".to_owned(),
            (0, _) => "has folders, but no file in them".to_owned(),
            (n, _) => format!(
                "holds {} directly, but no folder with files",
                ui::count(n as u64, "file")
            ),
        };
        bail!("{} {what}; {layout}", folder.display());
    }
    for path in &loose {
        eprintln!(
            "enroll: {} is in no person's folder and is skipped",
            path.display()
        );
    }
    Ok(people)
}

/// What is in `folder` and not hidden, sorted.
pub fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name();
        // What Windows leaves in folders is hidden there, too.
        let hidden = name.as_encoded_bytes().starts_with(b".")
            || ["Thumbs.db", "desktop.ini"].iter().any(|n| name == *n);
        if !hidden {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The files in `folder` and the folders in it, sorted. Links to folders are not followed, as they
/// may lead in circles.
fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in visible_entries(folder)? {
        if !path.is_dir() {
            files.push(path);
        } else if !path.is_symlink() {
            collect_files(&path, files)?;
        }
    }
    Ok(())
}

// ---- the images

/// Reads the photos on a thread of its own, in order, a little ahead of who takes them.
fn read_ahead(people: &[Person]) -> Receiver<Result<RgbImage, String>> {
    let photos: Vec<PathBuf> = people.iter().flat_map(|p| p.photos.clone()).collect();
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        for photo in photos {
            // Fails when nobody waits any more, after Ctrl-C or an error.
            if sender
                .send(read_image(&photo).map_err(|e| e.to_string()))
                .is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// Reads an image of any format, upright.
pub fn read_image(path: &Path) -> Result<RgbImage> {
    let reader = ImageReader::open(path)?.with_guessed_format()?;
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// A tight crop with space around it: half of its size on each side, in grey. Made smaller first
/// where it is large, as a face that fills the image is large enough then, too.
fn padded(image: &RgbImage) -> RgbImage {
    const LONGEST: u32 = 800;
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    let small;
    let image = if longest > LONGEST {
        let scale = |side: u32| (u64::from(side) * u64::from(LONGEST) / u64::from(longest)) as u32;
        small = imageops::thumbnail(image, scale(width).max(1), scale(height).max(1));
        &small
    } else {
        image
    };
    let (width, height) = image.dimensions();
    let mut out = RgbImage::from_pixel(2 * width, 2 * height, Rgb([128; 3]));
    imageops::replace(&mut out, image, (width / 2).into(), (height / 2).into());
    out
}

// ---- the pipeline

/// One pipeline that finds and embeds the faces of images, so that the models are loaded once.
struct Embedder {
    pipeline: graph::Running,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    detector: gst::Element,
    pushed: u64,
}

impl Embedder {
    fn start(args: &Args) -> Result<Self> {
        let pipeline = graph::Running::new();
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
        let sink = gst_app::AppSink::builder().sync(false).build();
        let detector = graph::make("facedetector")?;
        let recognizer = graph::make("facerecognizer")?;
        graph::set(&detector, "model", &args.detector)?;
        graph::set(&recognizer, "model", &args.model)?;
        for element in [&detector, &recognizer] {
            graph::set(element, "execution-provider", &args.execution_provider)?;
        }
        graph::set(&recognizer, "attach-embedding", true)?;
        graph::set(&recognizer, "interval", 0)?;
        graph::chain(
            &pipeline,
            &[
                source.upcast_ref(),
                &detector,
                &recognizer,
                sink.upcast_ref(),
            ],
        )?;
        graph::start(&pipeline)?;
        Ok(Self {
            pipeline,
            source,
            sink,
            detector,
            pushed: 0,
        })
    }

    /// The embedding of the one face in `image`, or why there is none. The outer error is one of the
    /// pipeline, after which nothing works any more.
    fn embedding(
        &mut self,
        image: Result<RgbImage, String>,
        largest: bool,
    ) -> Result<Result<Vec<f32>, Reason>> {
        let image = match image {
            Ok(image) => image,
            Err(cause) => return Ok(Err(Reason::Unreadable(cause))),
        };
        let faces = self.look_hard(&image)?;
        Ok(choose(faces, largest).and_then(|face| {
            face.embedding
                .map(|embedding| embedding.values)
                .ok_or(Reason::NoEmbedding)
        }))
    }

    /// The faces of an image: in large photos also small ones, and in a tight crop the one that
    /// fills it.
    fn look_hard(&mut self, image: &RgbImage) -> Result<Vec<Face>> {
        let longest = image.width().max(image.height());
        for (i, size) in INFERENCE_SIZES.into_iter().enumerate() {
            // The first size holds all there is to see of an image that is not larger.
            if i == 0 || longest > INFERENCE_SIZES[i - 1] {
                let faces = self.faces(image, size)?;
                if !faces.is_empty() {
                    return Ok(faces);
                }
            }
        }
        self.faces(&padded(image), INFERENCE_SIZES[0])
    }

    /// Sends one image through the pipeline.
    fn faces(&mut self, image: &RgbImage, inference_size: u32) -> Result<Vec<Face>> {
        graph::set(&self.detector, "inference-size", inference_size)?;
        let sample = self.sample(image)?;
        if self.source.push_sample(&sample).is_err() {
            return Err(self.error());
        }
        loop {
            if let Some(sample) = self
                .sink
                .try_pull_sample(gst::ClockTime::from_mseconds(100))
            {
                return Ok(sample.buffer().map(meta::read).unwrap_or_default());
            }
            if let Some(error) = graph::first_error(&self.pipeline) {
                return Err(error);
            }
            ensure!(!self.sink.is_eos(), "the pipeline ended before its input");
        }
    }

    fn error(&self) -> anyhow::Error {
        graph::first_error(&self.pipeline)
            .unwrap_or_else(|| anyhow!("the pipeline takes no image, and does not say why"))
    }

    fn sample(&mut self, image: &RgbImage) -> Result<gst::Sample> {
        let (width, height) = image.dimensions();
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
            .fps(gst::Fraction::new(0, 1))
            .build()?;
        let mut buffer = gst::Buffer::with_size(info.size())?;
        {
            let buffer = buffer.make_mut();
            // A second between two images, so that no stage takes them for one scene.
            buffer.set_pts(gst::ClockTime::from_seconds(self.pushed));
            let mut map = buffer.map_writable()?;
            let rows = map.chunks_exact_mut(info.stride()[0] as usize);
            for (to, from) in rows.zip(image.as_raw().chunks_exact(3 * width as usize)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        self.pushed += 1;
        Ok(gst::Sample::builder()
            .buffer(&buffer)
            .caps(&info.to_caps()?)
            .build())
    }
}

/// The face to take.
fn choose(faces: Vec<Face>, largest: bool) -> Result<Face, Reason> {
    if faces.len() > 1 && !largest {
        return Err(Reason::SeveralFaces(faces.len()));
    }
    let area = |face: &Face| face.rect.w * face.rect.h;
    faces
        .into_iter()
        .max_by(|a, b| area(a).total_cmp(&area(b)))
        .ok_or(Reason::NoFace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_core::geometry::Rect;

    fn face(size: f64) -> Face {
        Face {
            rect: Rect::new(0.0, 0.0, size, size),
            ..Default::default()
        }
    }

    #[test]
    fn several_faces_are_a_choice_of_the_user() {
        assert!(matches!(choose(vec![], true), Err(Reason::NoFace)));
        assert!(choose(vec![face(9.0)], false).is_ok());
        let three = || vec![face(3.0), face(9.0), face(5.0)];
        assert!(matches!(
            choose(three(), false),
            Err(Reason::SeveralFaces(3))
        ));
        assert!(choose(three(), true).is_ok_and(|f| f.rect.w == 9.0));
    }

    #[test]
    fn padding_doubles_the_size_and_limits_it() {
        let small = padded(&RgbImage::from_pixel(101, 51, Rgb([1, 2, 3])));
        assert_eq!(small.dimensions(), (202, 102));
        assert_eq!(
            (small.get_pixel(0, 0).0, small.get_pixel(101, 51).0),
            ([128; 3], [1, 2, 3])
        );
        assert_eq!(padded(&RgbImage::new(4000, 2000)).dimensions(), (1600, 800));
        assert_eq!(padded(&RgbImage::new(3000, 1)).dimensions(), (1600, 2));
    }

    #[test]
    fn folders_are_people_in_order() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let error = || {
            find_people(dir.path())
                .err()
                .expect("no people")
                .to_string()
        };
        assert!(error().contains("is empty"));
        fs::write(dir.path().join("a.jpg"), "").expect("writable");
        assert!(error().contains("holds 1 file directly") && error().contains("Ann/photo.jpg"));
        for file in [
            "bob/2.jpg",
            "bob/1.jpg",
            "bob/more/0.jpg",
            "ann/x.png",
            "ann/.hidden",
            ".git/x",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        let people = find_people(dir.path()).expect("two people");
        let names: Vec<_> = people.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        let photos = |i: usize| -> Vec<_> {
            people[i]
                .photos
                .iter()
                .map(|p| relative(p, dir.path()))
                .collect()
        };
        assert_eq!(photos(0), ["ann/x.png"]);
        assert_eq!(photos(1), ["bob/1.jpg", "bob/2.jpg", "bob/more/0.jpg"]);
    }
}
