//! `facepipe gallery`: inspects, checks and changes galleries.

mod convert;
pub mod show;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Error, Result, bail, ensure};
use face_core::model::Model;
use face_gallery::{Gallery, ModelId, edit, verify};
use face_meta::names;

use crate::Outcome;
use face_analysis::enroll::{self, Embedder, Person, Photo, UnnamedTrack};
use face_analysis::gallery::{self, save, write};
use face_analysis::media::Others;
use face_parts::lock::FileLock;
use face_parts::output::Output;
use face_parts::tell;
use face_parts::ui::{self, DelayedProgress};

/// Inspect, check and change galleries
///
/// A changed gallery is written completely or not at all, and only its owner can read it. Streams
/// that use it reload it within a second.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Info(InfoArgs),
    List(ListArgs),
    Add(AddArgs),
    Remove(RemoveArgs),
    Rename(RenameArgs),
    Merge(MergeArgs),
    Verify(VerifyArgs),
    Convert(convert::Args),
}

/// Show model, dimensions, people, images, rows and size of a gallery
#[derive(clap::Args)]
struct InfoArgs {
    /// The gallery
    file: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// List people, their images, and the number of rows from each
#[derive(clap::Args)]
struct ListArgs {
    /// The gallery
    file: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Add photos of one person, new or known, to a gallery, or faces that are not to be named
///
/// Photos are read as by `enroll`, with the gallery's model. Photos without a face or with several,
/// and photos that the gallery already contains, are left out and listed at the end.
///
/// With --stranger, faces are added that get no name: a face that is nearer to one of them than to a
/// person is nobody. Give photos, or a track that was wrongly named, of a result or of a running
/// camera. The gallery keeps the last 10000 of them.
#[derive(clap::Args)]
#[command(override_usage = ADD_USAGE)]
struct AddArgs {
    /// The gallery
    file: PathBuf,

    /// The person
    #[arg(required_unless_present = "stranger")]
    person: Option<String>,

    /// Photos, or folders of photos
    #[arg(required_unless_present = "stranger", value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// Add faces that are not to be named, of these photos or folders of photos
    #[arg(long, value_name = "IMAGE", num_args = 0.., conflicts_with_all = ["person", "images"])]
    stranger: Option<Vec<PathBuf>>,

    /// With --stranger: the folder with the results of one input, written by `facepipe analyze`
    #[arg(long, value_name = "DIR", requires_all = ["stranger", "track"])]
    result: Option<PathBuf>,

    /// With --stranger: a camera of a running `facepipe live`
    #[arg(long, value_name = "NAME", requires_all = ["stranger", "track"],
          conflicts_with = "result")]
    camera: Option<String>,

    /// With --result or --camera: the number of the track
    #[arg(long, value_name = "ID", requires = "stranger")]
    track: Option<u64>,

    /// With --camera: the configuration of the running `facepipe live`, if it sets `state`
    #[arg(long, value_name = "FILE", requires = "camera")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: enroll::Options,

    /// The model that made the gallery, if it cannot be found by its name: the path of an .onnx file
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

const ADD_USAGE: &str = "\
facepipe gallery add [OPTIONS] <FILE> <PERSON> <IMAGE>...
       facepipe gallery add [OPTIONS] <FILE> --stranger <IMAGE>...
       facepipe gallery add <FILE> --stranger --result <DIR> --track <ID>
       facepipe gallery add <FILE> --stranger --camera <NAME> --track <ID> [--config <FILE>]";

/// Remove people, or some of their images, from a gallery
#[derive(clap::Args)]
struct RemoveArgs {
    /// The gallery
    file: PathBuf,

    /// The people
    #[arg(required_unless_present = "stranger", value_name = "PERSON")]
    people: Vec<String>,

    /// Remove a face that is not to be named, by its source as in `gallery list`; may be given several
    /// times
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["people", "images"])]
    stranger: Vec<String>,

    /// Remove only this image, named as in `gallery list`, with its variations; may be given
    /// several times
    #[arg(long = "image", value_name = "SOURCE")]
    images: Vec<String>,
}

/// Rename a person in a gallery
#[derive(clap::Args)]
struct RenameArgs {
    /// The gallery
    file: PathBuf,

    /// The current name
    old: String,

    /// The new name
    new: String,

    /// NEW is already in the gallery, and both are the same person
    #[arg(long)]
    into_existing: bool,
}

/// Merge several galleries into one
///
/// The galleries must be made by the same model. People with the same name become one person. An
/// image that is already there, of the same person and with the same numbers, is dropped.
#[derive(clap::Args)]
struct MergeArgs {
    /// The galleries
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The gallery to write, which may be one of the inputs
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// Report problems of a gallery: people who look alike, images that are probably mislabelled,
/// duplicates, people with too few images
///
/// Two people look alike if the cosine distance of their nearest rows is within the threshold up to
/// which faces count as one person. An image is probably mislabelled if another person is within
/// that threshold and nearer than every other image of its own person. The exit code is 3 if
/// anything was found.
#[derive(clap::Args)]
struct VerifyArgs {
    /// The gallery
    file: PathBuf,

    /// The cosine distance up to which faces count as one person; by default the model's own
    #[arg(long, value_name = "D", value_parser = distance)]
    distance_threshold: Option<f64>,

    /// The recommended number of images per person; 0 accepts any number
    #[arg(long, value_name = "N", default_value_t = RECOMMENDED_IMAGES)]
    min_images: u32,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// With three images in different light and poses, 99 of 100 faces are named
/// (`docs/decisions/004-naming.md`), and one that is mislabelled can be found.
const RECOMMENDED_IMAGES: u32 = 3;

/// Parses a cosine distance.
pub fn distance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|d| (0.0..=2.0).contains(d) && *d > 0.0)
        .ok_or_else(|| "expected a number above 0, at most 2".to_owned())
}

pub fn run(args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Info(args) => info(args),
        Command::List(args) => list(args),
        Command::Add(args) => add(args),
        Command::Remove(args) => remove(args),
        Command::Rename(args) => rename(args),
        Command::Merge(args) => merge(args),
        Command::Verify(args) => verify(args),
        Command::Convert(args) => convert::run(args),
    }
}

fn info(args: &InfoArgs) -> Result<Outcome> {
    let gallery = Gallery::read_any_names(&args.file)?;
    let size = fs::metadata(&args.file)
        .with_context(|| format!("{} cannot be read", args.file.display()))?
        .len();
    show::Info::new(&args.file, size, &gallery).print(args.json)?;
    Ok(Outcome::Done)
}

fn list(args: &ListArgs) -> Result<Outcome> {
    show::List::new(&Gallery::read_any_names(&args.file)?).print(args.json)?;
    Ok(Outcome::Done)
}

fn add(args: &AddArgs) -> Result<Outcome> {
    let track = args.result.is_some() || args.camera.is_some();
    if track {
        return add_track(args);
    }
    let stranger = args.stranger.is_some();
    let name = match &args.person {
        Some(person) => names::checked(person).map_err(Error::msg)?,
        None => "stranger".into(),
    };
    let images = args.stranger.as_ref().unwrap_or(&args.images);
    ensure!(
        !images.is_empty(),
        "name photos after --stranger, or a track with --result DIR --track ID or --camera NAME --track ID"
    );
    let (model, id) = {
        let gallery = Gallery::read(&args.file)?;
        let model = args.model.as_ref().unwrap_or(&gallery.model.name).clone();
        let (id, _) = ModelId::of(&model).with_context(|| {
            let name = &gallery.model.name;
            format!("the gallery was made by the model `{name}`; name its file with --model")
        })?;
        gallery.expect_model(&args.file, &id)?;
        (model, id)
    };
    let person = Person {
        photos: photos(images, &name)?,
        name,
    };
    let mut embedder = Embedder::start(&args.options, &model)?;
    // Before taking the lock, as it takes long.
    let Some(looked) = enroll::look("gallery add", vec![person], &mut embedder)? else {
        tell!("gallery add: stopped by Ctrl-C, the gallery is unchanged");
        return Ok(Outcome::Interrupted);
    };
    let _lock = FileLock::take(&args.file)?;
    // The gallery may have changed by now.
    let mut gallery = Gallery::read(&args.file)?;
    gallery.expect_model(&args.file, &id)?;
    let report = match stranger {
        true => enroll::add_unnamed(looked, &mut gallery),
        false => enroll::add(looked, &mut gallery, enroll::Twice::LeaveOut),
    };
    added(report, &gallery, args)
}

/// Adds a track whose person is not to be named.
fn add_track(args: &AddArgs) -> Result<Outcome> {
    ensure!(
        args.stranger.as_ref().is_some_and(Vec::is_empty),
        "--stranger takes no photos with --result or --camera"
    );
    let track = args.track.context("--track is missing")?;
    let model = Gallery::read(&args.file)?.model;
    let unnamed = match (&args.result, &args.camera) {
        (Some(folder), _) => UnnamedTrack::of_result(folder, track)?,
        (None, Some(camera)) => {
            UnnamedTrack::of_camera(camera, track, args.config.as_deref(), &model)?
        }
        (None, None) => bail!("--result or --camera is missing"),
    };
    let _lock = FileLock::take(&args.file)?;
    let mut gallery = Gallery::read(&args.file)?;
    let report = unnamed
        .add_to(&mut gallery)
        .with_context(|| args.file.display().to_string())?;
    added(report, &gallery, args)
}

/// Writes a gallery to which something was added, and prints the table.
fn added(mut report: enroll::Enrolment, gallery: &Gallery, args: &AddArgs) -> Result<Outcome> {
    if report.used > 0 {
        write(gallery, &args.file)?;
        report.gallery = Some(args.file.display().to_string());
    }
    let outcome = crate::enroll::print(&report, args.json, ui::Place::Stdout)?;
    ensure!(report.used > 0, "nothing to add; the gallery is unchanged");
    Ok(outcome)
}

/// The photos in `images`, including folders, and their names in the gallery: person and file name,
/// like those of `enroll`.
fn photos(images: &[PathBuf], person: &str) -> Result<Vec<Photo>> {
    let mut paths = Vec::new();
    let mut others = Others::default();
    for image in images {
        match image.is_dir() {
            true => enroll::collect_photos(image, &mut paths, &mut others)?,
            false if image.exists() => paths.push(image.clone()),
            false => bail!("{} does not exist", image.display()),
        }
    }
    ensure!(!paths.is_empty(), "these folders contain no picture");
    if !others.is_empty() {
        tell!("gallery add: skipped {others}");
    }
    let photo = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let source = format!("{person}/{name}");
        Photo { path, source }
    };
    Ok(paths.into_iter().map(photo).collect())
}

/// `3 people, 12 rows`.
fn size(gallery: &Gallery) -> String {
    let people = ui::count(gallery.people().len() as u64, "person");
    format!("{people}, {}", ui::count(gallery.len() as u64, "row"))
}

fn remove(args: &RemoveArgs) -> Result<Outcome> {
    let _lock = FileLock::take(&args.file)?;
    let mut gallery = Gallery::read_any_names(&args.file)?;
    if !args.stranger.is_empty() {
        let count = gallery.remove_strangers(&args.stranger)?;
        write(&gallery, &args.file)?;
        let removed = ui::count(count as u64, "stranger");
        let left = ui::count(gallery.strangers().len() as u64, "stranger");
        let printed = ui::print(&format!("removed {removed}, left {left}\n"));
        ui::summary(printed, true)?;
        return Ok(Outcome::Done);
    }
    let left = edit::remove(&gallery, &args.people, &args.images)
        .with_context(|| args.file.display().to_string())?;
    write(&left, &args.file)?;
    let removed = ui::count((gallery.len() - left.len()) as u64, "row");
    let printed = ui::print(&format!("removed {removed}, left {}\n", size(&left)));
    ui::summary(printed, true)?;
    Ok(Outcome::Done)
}

fn rename(args: &RenameArgs) -> Result<Outcome> {
    let _lock = FileLock::take(&args.file)?;
    let gallery = Gallery::read_any_names(&args.file)?;
    let renamed = edit::rename(&gallery, &args.old, &args.new, args.into_existing)
        .with_context(|| args.file.display().to_string())?;
    write(&renamed, &args.file)?;
    let (old, new) = (&args.old, &args.new);
    let printed = ui::print(&format!("{old:?} is now {new:?}, {}\n", size(&renamed)));
    ui::summary(printed, true)?;
    Ok(Outcome::Done)
}

fn merge(args: &MergeArgs) -> Result<Outcome> {
    // Taken before the inputs are read, as the output may be one of them.
    let _lock = FileLock::take(&args.output)?;
    let galleries = args
        .files
        .iter()
        .map(|file| Ok(Gallery::read(file)?))
        .collect::<Result<Vec<Gallery>>>()?;
    for (gallery, file) in galleries.iter().zip(&args.files).skip(1) {
        let (first, own) = (&galleries[0].model, &gallery.model);
        ensure!(
            first.sha256 == own.sha256 && galleries[0].dimensions() == gallery.dimensions(),
            "{} was made by the model {}, {} by {}: their embeddings cannot be compared; enroll the \
             people of one of them again with the other model",
            args.files[0].display(),
            gallery::model(first),
            file.display(),
            gallery::model(own)
        );
    }
    let (all, counts) = edit::merge(&galleries)?;
    let output = Output::private(&args.output)?;
    let place = ui::Place::beside(&output, args.json)?;
    let name = save(&all, output)?;
    let merge = show::Merge::new(&args.files, &galleries, &counts, name, &all);
    ui::summary(merge.print(args.json, place), true)?;
    Ok(Outcome::Done)
}

fn verify(args: &VerifyArgs) -> Result<Outcome> {
    let gallery = Gallery::read(&args.file)?;
    let limits = verify::Limits {
        threshold: match args.distance_threshold {
            Some(threshold) => threshold,
            None => own_threshold(&gallery)?,
        },
        images: args.min_images as usize,
    };
    let mut progress = DelayedProgress::new("gallery verify", Some(gallery.len() as u64));
    let findings = verify::verify(&gallery, limits, |done| progress.goes_on(done as u64));
    drop(progress);
    let Some(findings) = findings else {
        tell!("gallery verify: stopped by Ctrl-C");
        return Ok(Outcome::Interrupted);
    };
    show::verified(&findings, limits, &gallery, args.json)?;
    Ok(match findings.count() {
        0 => Outcome::Done,
        _ => Outcome::Incomplete,
    })
}

/// The distance threshold of the model that made the gallery.
fn own_threshold(gallery: &Gallery) -> Result<f64> {
    let name = &gallery.model.name;
    let model = Model::find(name).with_context(|| {
        format!(
            "the threshold of the gallery's model `{name}` is unknown; give --distance-threshold"
        )
    })?;
    model.descriptor.distance_threshold.with_context(|| {
        format!("the model `{name}` has no distance threshold; give --distance-threshold")
    })
}
