//! `facepipe gallery convert`: embeds the photos of a gallery again, with another model.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueHint;
use face_analysis::enroll::{self, Conversion, Embedder, Twice};
use face_analysis::gallery::save;
use face_gallery::{Gallery, ModelId};
use face_parts::lock::FileLock;
use face_parts::output::{self, Output};
use face_parts::tell;
use face_parts::ui;

use crate::Outcome;

/// Make a gallery for another model, from the same photos
///
/// Embeddings of two models cannot be compared, and cannot be computed from each other: the photos are
/// needed again. They are looked for under the names that `gallery list` shows, in the folder from which
/// the gallery was enrolled. People, names of images and the number of variations stay the same. Images
/// without a photo there, and photos in which no face is found, are left out and listed at the end.
#[derive(clap::Args)]
pub struct Args {
    /// The gallery
    file: PathBuf,

    /// The folder of photos, with one folder per person
    #[arg(value_hint = ValueHint::DirPath)]
    photos: PathBuf,

    /// The model to convert to: a name, or the path of an .onnx file
    #[arg(long, value_name = "MODEL")]
    model: String,

    /// The gallery to write, which may be FILE
    #[arg(short, long, value_name = "GALLERY")]
    output: PathBuf,

    #[command(flatten)]
    options: enroll::Options,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    ensure!(
        args.options.augment == 0,
        "photos keep the number of their variations: leave out --augment"
    );
    output::check_folder(&args.output)?;
    // Whoever changes the gallery meanwhile would lose it, where it is converted in place.
    let in_place = same_file(&args.file, &args.output);
    let lock = in_place.then(|| FileLock::take(&args.file)).transpose()?;
    let old = Gallery::read(&args.file)?;
    let (model, dimensions) = ModelId::of(&args.model)?;
    let mut plan = Conversion::plan(&old, &args.photos)?;
    let mut gallery = Gallery::new(model, dimensions);
    gallery.notes = old.notes.clone();
    let mut options = args.options.clone();
    // The first variations of a photo are the same, however many follow.
    options.augment = u32::try_from(plan.most_variations())?;
    let mut embedder = Embedder::start(&options, &args.model)?;
    let people = plan.take_people();
    let Some(mut looked) = enroll::look("gallery convert", people, &mut embedder)? else {
        tell!("gallery convert: stopped by Ctrl-C, no gallery was written");
        return Ok(Outcome::Interrupted);
    };
    plan.trim(&mut looked);
    let mut report = enroll::add(looked, &mut gallery, Twice::Add);
    report.leave_out(plan.missing());
    if gallery.is_empty() {
        crate::enroll::print(&report, args.json, ui::Place::Stdout)?;
        anyhow::bail!("no photo shows a usable face; no gallery was written");
    }
    ensure!(
        !in_place || report.left_out.is_empty(),
        "{} images would be lost, among them {}; name another file with -o",
        report.left_out.len(),
        report.left_out[0].source
    );
    let _lock = match lock {
        Some(lock) => lock,
        None => FileLock::take(&args.output)?,
    };
    let output = Output::private(&args.output)?;
    let place = ui::Place::beside(&output, args.json)?;
    report.gallery = Some(save(&gallery, output)?);
    crate::enroll::print(&report, args.json, place)
}

/// Whether both paths lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
