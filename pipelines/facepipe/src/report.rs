//! `facepipe report`: shows the results in a folder on one page for a browser.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueHint;

use crate::Outcome;
use face_parts::interrupt;
use face_parts::output::{Output, check_folder};
use face_parts::tell;
use face_parts::ui::{self, DelayedProgress};

use face_analysis::report::load::{self, Loaded};
use face_analysis::report::thumbnails::Thumbnails;
use face_analysis::report::{model, page};

/// Make a page that shows who is in the analysed inputs, and when
///
/// The page is one file for any browser and needs no network. It has a timeline for each input, on
/// which a click jumps in the video next to it, totals for each person, and, for unknown people, the
/// command that names them. It plays the videos from their original place or from next to the page; it
/// does not contain them.
///
///   facepipe analyze films/ -o results --gallery friends.safetensors
///   facepipe cluster results
///   facepipe report results -o report.html
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The folder with the results of `facepipe analyze`
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    results: PathBuf,

    /// The page to write
    #[arg(short, long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<Outcome> {
    check_folder(&args.output)?;
    let Loaded {
        results,
        mut problems,
    } = load::load(&args.results)?;
    let report = model::build(&results);

    let mut thumbnails = Thumbnails::default();
    let faces = report.thumbnails();
    let mut progress = DelayedProgress::new("report", Some(faces.len() as u64));
    for (done, path) in faces.iter().enumerate() {
        if interrupt::requested() {
            return Ok(Outcome::Interrupted);
        }
        progress.update(done as u64, |_, total| {
            format!("{done} of {}", ui::count(total, "face"))
        });
        thumbnails.add(path);
    }
    drop(progress);
    problems.extend(thumbnails.problem());

    let page = page::render(&report, &thumbnails, &problems, &args.results, &args.output)?;
    let output = Output::create(&args.output)?;
    output.write(page.as_bytes())?;
    let name = output.keep()?;
    for problem in &problems {
        tell!("report: {problem}");
    }
    tell!(
        "report: wrote {name}: {}, {}, {:.1} MB",
        ui::count(report.inputs.len() as u64, "input"),
        ui::count(report.people() as u64, "person"),
        page.len() as f64 / 1e6
    );
    Ok(match problems.is_empty() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}
