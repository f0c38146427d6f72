//! `facepipe search`: finds a face in everything that was analysed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueHint;
use face_analysis::enroll;
use face_analysis::search::{Archives, Query, Search, page};
use face_parts::output::{Output, check_folder};
use face_parts::{tell, ui};

use crate::Outcome;

/// Find where a face was seen in all analysed films
///
/// Give photos of one person, and folders that `facepipe analyze` has written into. The tracks that
/// look like the person are printed, nearest first. Several photos together find more.
///
///   facepipe search ann.jpg results
///   facepipe search ann-1.jpg ann-2.jpg results archive/2024 --html ann.html
///
/// Each folder gets an index, search.index, which makes the next search quick. It grows when more films
/// are analysed. Like the results, it has embeddings of faces: only its owner can read it.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Photos of the person, and folders of results
    #[arg(value_name = "PHOTO|DIR", required = true, value_hint = ValueHint::AnyPath)]
    inputs: Vec<PathBuf>,

    /// Show at most this many tracks
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// The cosine distance up to which a track is shown; by default such that one of ten searches for
    /// somebody who is in no film finds somebody else
    #[arg(long, value_name = "D", value_parser = crate::gallery::distance)]
    distance_threshold: Option<f64>,

    /// If a photo shows several faces, take the largest
    #[arg(long)]
    largest: bool,

    /// What finds the face in the photos: a preset or a model, as for `facepipe enroll`
    #[arg(long, value_name = "MODEL", default_value = "yunet")]
    detector: String,

    /// What runs the models: cpu, cuda, tensorrt, openvino, …
    #[arg(long, value_name = "PROVIDER", default_value = "cpu")]
    execution_provider: String,

    /// Also write a page for a browser
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    html: Option<PathBuf>,

    /// Print the result as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    if let Some(page) = &args.html {
        check_folder(page)?;
    }
    let (folders, photos): (Vec<PathBuf>, Vec<PathBuf>) =
        args.inputs.iter().cloned().partition(|path| path.is_dir());
    ensure!(
        !photos.is_empty(),
        "there is no photo to search for; {} is a folder",
        folders[0].display()
    );
    ensure!(
        !folders.is_empty(),
        "there is no folder of results to search in; give one that `facepipe analyze -o` has written into"
    );
    let archives = Archives::open(&folders)?;
    let threshold = match args.distance_threshold {
        Some(threshold) => threshold,
        None => archives.threshold()?,
    };
    let options = enroll::Options {
        largest: args.largest,
        augment: 0,
        detector: args.detector.clone(),
        execution_provider: args.execution_provider.clone(),
    };
    let Some(query) = Query::of(&photos, archives.model(), &options)? else {
        return Ok(Outcome::Interrupted);
    };
    let found = archives.search(&query.embedding, args.limit as usize, threshold);
    let photos = || archives.problems.iter().chain(&query.left_out);
    let problems = || photos().chain(&found.problems);
    let mut complete = problems().next().is_none();
    for problem in problems() {
        tell!("search: {problem}");
    }
    let mut written = false;
    if let Some(path) = &args.html {
        let (text, problem) = page::render(&found, &query.photos, path)?;
        let output = Output::private(path)?;
        output.write(text.as_bytes())?;
        tell!("search: wrote {}", output.keep()?);
        written = true;
        if let Some(problem) = problem {
            tell!("search: {problem}");
            complete = false;
        }
    }
    let printed = ui::print(&match args.json {
        true => serde_json::to_string_pretty(&found)? + "\n",
        false => readable(&found),
    });
    ui::summary(printed, written)?;
    Ok(match complete {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

fn readable(found: &Search) -> String {
    let clock = |ns: u64| ui::clock(Duration::from_nanos(ns));
    let head = [
        "film", "from", "to", "distance", "person", "track", "picture",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for hit in &found.hits {
        let film = Path::new(&hit.input).file_name();
        let thumbnail = hit.thumbnail.as_ref();
        rows.push(vec![
            film.map_or(hit.input.clone(), |name| {
                name.to_string_lossy().into_owned()
            }),
            clock(hit.first),
            clock(hit.last),
            format!("{:.3}", hit.distance),
            hit.person.clone().unwrap_or_else(|| "-".into()),
            format!("{}/{}", hit.folder, hit.track),
            thumbnail.map_or("-".into(), |path| path.display().to_string()),
        ]);
    }
    rows.push(vec![format!(
        "{} of {} in {}{}",
        ui::count(found.hits.len() as u64, "track"),
        found.tracks,
        ui::count(found.films as u64, "film"),
        if found.more {
            "; --limit shows more"
        } else {
            ""
        }
    )]);
    ui::table(&rows)
}
