//! `facepipe report`: the results of a folder as one page for a browser.

mod load;
mod media;
mod model;
mod page;
mod spans;
mod thumbnails;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueHint;

use crate::output::{Output, check_folder};
use crate::ui::{self, Progress};
use crate::{Outcome, interrupt};

use self::load::Loaded;
use self::thumbnails::Thumbnails;

/// Make a page that shows who is in the analysed inputs, and when
///
/// The page is one file for any browser, without network: a timeline an input, on which a click jumps
/// in the video beside it, totals a person, and for unknown people the command that names them. It
/// plays the videos from where they were analysed, or from beside the page; they are not in it.
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
    let started = Instant::now();
    let mut progress = None;
    for (done, path) in faces.iter().enumerate() {
        if interrupt::requested() {
            return Ok(Outcome::Interrupted);
        }
        if started.elapsed() > Duration::from_secs(1) {
            let total = faces.len() as u64;
            progress
                .get_or_insert_with(|| Progress::new("report", Some(total)))
                .update(
                    done as u64,
                    &format!("{done} of {}", ui::count(total, "face")),
                );
        }
        thumbnails.add(path);
    }
    drop(progress);
    problems.extend(thumbnails.problem());

    let page = page::render(&report, &thumbnails, &problems, args)?;
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
