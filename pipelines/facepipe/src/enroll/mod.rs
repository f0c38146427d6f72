//! `facepipe enroll`: turns photos of people, in one folder per person, into a gallery.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::ValueHint;
use face_gallery::{Gallery, ModelId};

use crate::Outcome;
use face_analysis::enroll::{
    Embedder, Enrolment, GrownGallery, NamedStrangers, Naming, Options, Sighting, Twice, add,
    add_live_strangers, add_sighting, add_strangers, folders, look,
};
use face_analysis::gallery;
use face_parts::lock::FileLock;
use face_parts::output;
use face_parts::output::Output;
use face_parts::tell;
use face_parts::ui;

/// Make a gallery of known people from photos
///
/// PEOPLE_DIR contains one folder per person, named after that person, with one or more photos:
///
///   people/Ann/1.jpg
///   people/Ann/holiday.png
///   people/Bob/portrait.webp
///
/// Each photo should show one face. Photos without a face, or with several, are left out and listed
/// at the end. Photos cropped tightly around a face are fine.
///
/// Or name strangers from the pictures that `facepipe cluster DIR` has made:
///
///   facepipe enroll --from-clusters DIR stranger-1=Anna stranger-2="Ben B." -o friends.safetensors
///
/// Or name somebody whom a running `facepipe live` has seen in the last ten minutes, by default in the
/// camera's gallery:
///
///   facepipe enroll --camera door --track 17 --person Anna
///
/// Or name strangers whom it has told apart, whenever that was; `facepipe strangers` lists them:
///
///   facepipe enroll --from-live stranger-12=Anna
#[derive(clap::Args)]
#[command(verbatim_doc_comment, override_usage = USAGE)]
pub struct Args {
    /// The folder that contains one folder per person; hidden files and folders are skipped
    #[arg(required_unless_present_any = ["camera", "from_live"])]
    people_dir: Option<PathBuf>,

    /// With --from-clusters, instead of a folder: strangers and their names, such as
    /// stranger-1=Anna; strangers with the same name become one person
    #[arg(value_name = "STRANGER=NAME", requires = "from_clusters")]
    names: Vec<OsString>,

    /// The gallery to write. An existing one is replaced when all photos are done; --from-clusters,
    /// --from-live and --camera add to it
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["camera", "from_live"])]
    output: Option<PathBuf>,

    /// Enroll from this camera of a running `facepipe live`
    #[arg(long, value_name = "NAME", requires_all = ["track", "person"],
          conflicts_with_all = ["people_dir", "from_clusters", "largest", "augment", "detector",
                                "execution_provider"])]
    camera: Option<String>,

    /// With --camera: the number of the track, as in the camera's outputs
    #[arg(long, value_name = "ID", requires = "camera")]
    track: Option<u64>,

    /// With --camera: the person's name
    #[arg(long, value_name = "NAME", requires = "camera")]
    person: Option<String>,

    /// Name strangers whom a running `facepipe live` tells apart, such as stranger-12=Anna; strangers
    /// with the same name become one person
    #[arg(long, value_name = "STRANGER=NAME", num_args = 1..,
          conflicts_with_all = ["people_dir", "from_clusters", "camera", "largest", "augment",
                                "detector", "execution_provider", "model"])]
    from_live: Vec<String>,

    /// With --camera or --from-live: the configuration of the running `facepipe live`, if it sets
    /// `state`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["people_dir", "from_clusters"])]
    config: Option<PathBuf>,

    /// Enroll strangers from this folder of results
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath,
          conflicts_with_all = ["largest", "augment", "detector", "execution_provider", "model"])]
    from_clusters: Option<PathBuf>,

    #[command(flatten)]
    options: Options,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,

    /// The model that tells faces apart: a name, or the path of an .onnx file. A gallery can be
    /// used only with the model that made it
    #[arg(long, value_name = "MODEL", default_value = "sface")]
    model: String,
}

const USAGE: &str = "\
facepipe enroll [OPTIONS] --output <FILE> <PEOPLE_DIR>
       facepipe enroll [OPTIONS] --output <FILE> --from-clusters <DIR> <STRANGER=NAME>...
       facepipe enroll --camera <NAME> --track <ID> --person <NAME> [--config <FILE>]
       facepipe enroll --from-live <STRANGER=NAME>... [--config <FILE>]";

pub fn run(args: &Args) -> Result<Outcome> {
    if let (Some(camera), Some(track), Some(person)) = (&args.camera, args.track, &args.person) {
        let grown = add_sighting(&Sighting {
            camera,
            track,
            person,
            config: args.config.as_deref(),
            output: args.output.as_deref(),
            model: &args.model,
        })?;
        return write(grown, args.json);
    }
    if !args.from_live.is_empty() {
        return name_live(args);
    }
    // clap requires both.
    let (Some(people_dir), Some(path)) = (&args.people_dir, &args.output) else {
        bail!("name the folder of people and the gallery to write");
    };
    if let Some(folder) = &args.from_clusters {
        let first = std::iter::once(people_dir.as_os_str());
        let names = first.chain(args.names.iter().map(OsString::as_os_str));
        let namings = namings(names.map(|name| name.to_string_lossy()));
        return write(add_strangers(folder, &namings, path)?, args.json);
    }
    output::check_folder(path)?;
    let people = folders::find_people(people_dir)?;
    let (model, dimensions) = ModelId::of(&args.model)?;
    let mut gallery = Gallery::new(model, dimensions);
    let mut embedder = Embedder::start(&args.options, &args.model)?;

    let Some(looked) = look("enroll", people, &mut embedder)? else {
        tell!("enroll: stopped by Ctrl-C, no gallery was written");
        return Ok(Outcome::Interrupted);
    };
    // Photos may occur twice; `gallery verify` finds them.
    let mut report = add(looked, &mut gallery, Twice::Add);
    let mut place = ui::Place::Stdout;
    if !gallery.is_empty() {
        // So that nobody who adds to the previous gallery writes that over this one.
        let _lock = FileLock::take(path)?;
        let output = Output::private(path)?;
        place = ui::Place::beside(&output, args.json)?;
        report.gallery = Some(gallery::save(&gallery, output)?);
    }
    let outcome = print(&report, args.json, place)?;
    ensure!(
        !gallery.is_empty(),
        "no photo shows a usable face; no gallery was written"
    );
    Ok(outcome)
}

/// Writes a gallery, if anybody was added, and prints the table.
fn write(grown: GrownGallery, json: bool) -> Result<Outcome> {
    if grown.enrolment().used == 0 {
        print(grown.enrolment(), json, ui::Place::Stdout)?;
        bail!("nothing to add; no gallery was written");
    }
    let output = Output::private(grown.path())?;
    let place = ui::Place::beside(&output, json)?;
    print(&grown.write(output)?, json, place)
}

/// Parses strangers and their names. Anything else is a wrong usage.
fn namings(texts: impl Iterator<Item = impl AsRef<str>>) -> Vec<Naming> {
    let namings: Result<Vec<Naming>, String> =
        texts.map(|text| Naming::parse(text.as_ref())).collect();
    namings.unwrap_or_else(|error| {
        let kind = clap::error::ErrorKind::ValueValidation;
        clap::Error::raw(kind, error + "\n").exit()
    })
}

/// Names strangers of a running `facepipe live`, in a gallery and in its events.
fn name_live(args: &Args) -> Result<Outcome> {
    let namings = namings(args.from_live.iter());
    let (config, output) = (args.config.as_deref(), args.output.as_deref());
    let NamedStrangers { gallery, names } = add_live_strangers(&namings, config, output)?;
    // Somebody whose embeddings are all there already may still be without a name there.
    let outcome = match gallery.enrolment().used {
        0 => print(gallery.enrolment(), args.json, ui::Place::Stdout)?,
        _ => write(gallery, args.json)?,
    };
    for named in names.tell()? {
        let tracks = ui::count(named.visits.len() as u64, "track");
        tell!(
            "enroll: {} is {} from now on, and in {tracks} of the past",
            named.stranger,
            named.person
        );
    }
    Ok(outcome)
}

/// Prints the final table. Returns the outcome of the command.
pub fn print(report: &Enrolment, json: bool, place: ui::Place) -> Result<Outcome> {
    let printed = place.print(&match json {
        true => serde_json::to_string_pretty(report)? + "\n",
        false => readable(report),
    });
    ui::summary(printed, report.gallery.is_some())?;
    Ok(match report.left_out.is_empty() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

/// The report as a table and lists.
fn readable(report: &Enrolment) -> String {
    let line = |person: &str, images: usize, used: usize, rows: usize| {
        let numbers = [images, used, images - used, rows].map(|n| n.to_string());
        [&[person.to_owned()], &numbers[..]].concat()
    };
    let head = ["person", "images", "faces used", "left out", "rows"];
    let mut lines = vec![head.map(String::from).to_vec()];
    let people = report.people.iter();
    lines.extend(people.map(|p| line(&p.person, p.images, p.used, p.rows)));
    let all = ui::count(report.people.len() as u64, "person");
    lines.push(line(&all, report.images, report.used, report.rows));
    let mut text = ui::table(&lines);
    if !report.left_out.is_empty() {
        text += "\nleft out:\n";
        for photo in &report.left_out {
            text += &format!("  {}: {}\n", photo.source, photo.reason);
        }
    }
    if !report.remarks.is_empty() {
        text += "\nremarks:\n";
        for photo in &report.remarks {
            text += &format!("  {}: {}\n", photo.source, photo.remark);
        }
    }
    if let Some(gallery) = &report.gallery {
        text += &format!("\ngallery: {gallery} (model {})\n", report.model);
    }
    text
}
