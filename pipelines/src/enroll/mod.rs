//! `facepipe enroll`: photos of people, a folder a person, into a gallery.

mod augment;
mod camera;
mod folders;
mod images;
mod look;
mod strangers;
mod variations;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueHint;
use face_core::model::{Model, Task};
use gstfacerecog::gallery::{Gallery, ModelId};
use serde::Serialize;

use crate::gallery::{self, edit};
use crate::lock::FileLock;
use crate::output::Output;
use crate::ui::{self, Progress};
use crate::{Outcome, interrupt, output};
pub use folders::{collect_files, visible_entries};
pub use images::read_image;
pub use look::{Embedder, Options, Reason};
use strangers::Naming;

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
///
/// Or give names to strangers, whose pictures `facepipe cluster DIR` has made:
///
///   facepipe enroll --from-clusters DIR stranger-1=Anna stranger-2="Ben B." -o friends.safetensors
///
/// Or to somebody whom a running `facepipe live` has seen in the last ten minutes; the gallery is that
/// of the camera:
///
///   facepipe enroll --camera door --track 17 --person Anna
#[derive(clap::Args)]
#[command(verbatim_doc_comment, override_usage = USAGE)]
pub struct Args {
    /// The folder with one folder a person; hidden files and folders are skipped
    #[arg(required_unless_present = "camera")]
    people_dir: Option<PathBuf>,

    /// With --from-clusters, instead of a folder: strangers and their names, such as stranger-1=Anna;
    /// two of one name are one person
    #[arg(value_name = "STRANGER=NAME", requires = "from_clusters")]
    names: Vec<OsString>,

    /// The gallery to write; an existing one is replaced when all photos are done, and added to with
    /// --from-clusters and --camera
    #[arg(short, long, value_name = "FILE", required_unless_present = "camera")]
    output: Option<PathBuf>,

    /// Enrol from this camera of a running `facepipe live`
    #[arg(long, value_name = "NAME", requires_all = ["track", "person"],
          conflicts_with_all = ["people_dir", "from_clusters", "largest", "augment", "detector",
                                "execution_provider"])]
    camera: Option<String>,

    /// With --camera: the number of the track, as in its outputs
    #[arg(long, value_name = "ID", requires = "camera")]
    track: Option<u64>,

    /// With --camera: whose face it is
    #[arg(long, value_name = "NAME", requires = "camera")]
    person: Option<String>,

    /// With --camera: the configuration that `facepipe live` runs with, if it sets `state`
    #[arg(long, value_name = "FILE", requires = "camera", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Make people of the strangers in this folder of results
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath,
          conflicts_with_all = ["largest", "augment", "detector", "execution_provider", "model"])]
    from_clusters: Option<PathBuf>,

    #[command(flatten)]
    options: Options,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,

    /// The model that tells faces apart: a name, or the path of an .onnx file. Galleries can only be
    /// used with the model they were made by
    #[arg(long, value_name = "MODEL", default_value = "sface")]
    model: String,
}

const USAGE: &str = "\
facepipe enroll [OPTIONS] --output <FILE> <PEOPLE_DIR>
       facepipe enroll [OPTIONS] --output <FILE> --from-clusters <DIR> <STRANGER=NAME>...
       facepipe enroll --camera <NAME> --track <ID> --person <NAME> [--config <FILE>]";

/// A person and photos, in order.
pub struct Person {
    pub name: String,
    pub photos: Vec<Photo>,
}

/// A photo, and what it is called in the gallery.
pub struct Photo {
    pub path: PathBuf,
    pub source: String,
}

/// What became of one person's photos.
#[derive(Default, Serialize)]
struct PersonReport {
    person: String,
    images: usize,
    /// Images whose face is in the gallery.
    used: usize,
    left_out: usize,
    /// Rows of the gallery that came of them.
    rows: usize,
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
pub struct Report {
    /// `None` if nothing was written.
    pub gallery: Option<String>,
    model: String,
    images: usize,
    pub used: usize,
    rows: usize,
    people: Vec<PersonReport>,
    left_out: Vec<LeftOut>,
}

pub fn run(args: &Args) -> Result<Outcome> {
    if let (Some(camera), Some(track), Some(person)) = (&args.camera, args.track, &args.person) {
        return camera::run(&camera::Sighting {
            camera,
            track,
            person,
            config: args.config.as_deref(),
            output: args.output.as_deref(),
            model: &args.model,
            json: args.json,
        });
    }
    // clap asks for both.
    let (Some(people_dir), Some(path)) = (&args.people_dir, &args.output) else {
        bail!("name the folder of people and the gallery to write");
    };
    if let Some(folder) = &args.from_clusters {
        let first = std::iter::once(people_dir.as_os_str());
        let names = first.chain(args.names.iter().map(OsString::as_os_str));
        let namings: Result<Vec<Naming>, String> = names
            .map(|name| Naming::parse(&name.to_string_lossy()))
            .collect();
        let namings = namings.unwrap_or_else(|error| {
            let kind = clap::error::ErrorKind::ValueValidation;
            clap::Error::raw(kind, error + "\n").exit()
        });
        return strangers::run(folder, &namings, path, args.json);
    }
    output::check_folder(path)?;
    let people = folders::find_people(people_dir)?;
    let (model, dimensions) = recognition_model(&args.model)?;
    let mut gallery = Gallery::new(model, dimensions);
    let mut embedder = Embedder::start(&args.options, &args.model)?;

    let Some(looked) = look("enroll", people, &mut embedder)? else {
        tell!("enroll: stopped by Ctrl-C, no gallery was written");
        return Ok(Outcome::Interrupted);
    };
    // A photo may be there twice: whoever wants to know asks `gallery verify`.
    let mut report = add(looked, &mut gallery, Twice::Add);
    let mut place = ui::Place::Stdout;
    if !gallery.is_empty() {
        // Who adds to the gallery of before must not write that back over this one.
        let _lock = FileLock::take(path)?;
        let output = Output::private(path)?;
        place = ui::Place::beside(&output, args.json)?;
        report.gallery = Some(gallery::save(&gallery, output)?);
    }
    report.print(args.json, place)?;
    ensure!(
        !gallery.is_empty(),
        "no photo shows a usable face; no gallery was written"
    );
    Ok(report.outcome())
}

/// The identity of the recognition model and the length of its embeddings.
pub fn recognition_model(name: &str) -> Result<(ModelId, usize)> {
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

/// What to do with a photo that the gallery holds already, and with one whose name is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// It is added; names are not looked at.
    Add,
    /// It is left out; another one of its name gets a new name.
    LeaveOut,
}

/// What was seen on a photo: the embeddings of the face and its variations.
type Seen = Result<Vec<Vec<f32>>, Reason>;

/// A person, and what each photo is called and shows.
pub struct Looked {
    person: String,
    photos: Vec<(String, Seen)>,
}

/// Looks at all photos; `None` if Ctrl-C came in between.
pub fn look(
    task: &'static str,
    people: Vec<Person>,
    embedder: &mut Embedder,
) -> Result<Option<Vec<Looked>>> {
    let paths = people.iter().flat_map(|p| &p.photos);
    let paths: Vec<PathBuf> = paths.map(|photo| photo.path.clone()).collect();
    let total = paths.len() as u64;
    let mut progress = Progress::new(task, Some(total));
    let begin = Instant::now();
    let images = images::read_ahead(paths);
    let mut done = 0;
    let mut all = Vec::with_capacity(people.len());
    for person in people {
        let mut photos = Vec::with_capacity(person.photos.len());
        for photo in person.photos {
            let left = ui::steps_left(done, total, begin.elapsed());
            progress.update(done, &format!("{left}, {}", photo.source));
            if interrupt::requested() {
                return Ok(None);
            }
            let image = images
                .recv()
                .context("the thread that reads photos ended early")?;
            let looked = embedder
                .embeddings(image)
                .with_context(|| format!("{}", photo.path.display()))?;
            photos.push((photo.source, looked));
            done += 1;
        }
        all.push(Looked {
            person: person.name,
            photos,
        });
    }
    Ok(Some(all))
}

/// Adds what was seen to a gallery.
pub fn add(all: Vec<Looked>, gallery: &mut Gallery, twice: Twice) -> Report {
    let mut report = Report {
        gallery: None,
        model: gallery.model.name.clone(),
        images: all.iter().map(|looked| looked.photos.len()).sum(),
        used: 0,
        rows: 0,
        people: Vec::new(),
        left_out: Vec::new(),
    };
    for Looked { person, photos } in all {
        let mut counts = PersonReport {
            images: photos.len(),
            ..Default::default()
        };
        let mut taken = match twice {
            Twice::Add => None,
            Twice::LeaveOut => Some(edit::sources(gallery, &person)),
        };
        for (wanted, looked) in photos {
            let source = match &mut taken {
                None => wanted,
                Some(taken) => edit::free_source(taken, &wanted),
            };
            let added = looked.and_then(|embeddings| {
                let known = match twice {
                    Twice::Add => None,
                    Twice::LeaveOut => edit::find(gallery, &person, &embeddings[0]),
                };
                match known {
                    Some(source) => Err(Reason::Known(source)),
                    None => edit::add_image(gallery, &person, &source, &embeddings)
                        .ok_or(Reason::NoEmbedding),
                }
            });
            match added {
                Ok(rows) => {
                    counts.used += 1;
                    counts.rows += rows;
                }
                Err(reason) => report.left_out.push(LeftOut {
                    person: person.clone(),
                    source,
                    reason: reason.to_string(),
                }),
            }
        }
        counts.left_out = counts.images - counts.used;
        counts.person = person;
        report.used += counts.used;
        report.rows += counts.rows;
        report.people.push(counts);
    }
    report
}

impl Report {
    pub fn outcome(&self) -> Outcome {
        match self.left_out.is_empty() {
            true => Outcome::Done,
            false => Outcome::Incomplete,
        }
    }

    /// Prints the report.
    pub fn print(&self, json: bool, place: ui::Place) -> Result<()> {
        place.print(&match json {
            true => serde_json::to_string_pretty(self)? + "\n",
            false => self.readable(),
        })
    }

    /// The report as a table and lists.
    fn readable(&self) -> String {
        let line = |person: &str, images: usize, used: usize, rows: usize| {
            let numbers = [images, used, images - used, rows].map(|n| n.to_string());
            [&[person.to_owned()], &numbers[..]].concat()
        };
        let head = ["person", "images", "faces used", "left out", "rows"];
        let mut lines = vec![head.map(String::from).to_vec()];
        let people = self.people.iter();
        lines.extend(people.map(|p| line(&p.person, p.images, p.used, p.rows)));
        let all = ui::count(self.people.len() as u64, "person");
        lines.push(line(&all, self.images, self.used, self.rows));
        let mut text = ui::table(&lines);
        if !self.left_out.is_empty() {
            text += "\nleft out:\n";
            for photo in &self.left_out {
                text += &format!("  {}: {}\n", photo.source, photo.reason);
            }
        }
        if let Some(gallery) = &self.gallery {
            text += &format!("\ngallery: {gallery} (model {})\n", self.model);
        }
        text
    }
}
