//! `facepipe models`: lists the available models.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use face_core::model::{self, Model, Task};
use face_core::session::{self, Runner};
use face_parts::interrupt;
use face_parts::ui::{self, Progress};
use serde::Serialize;

use crate::Outcome;

/// List the installed models: what each does, its licence, and how fast it is here
///
/// Options and properties take their names: --detector accepts models that detect faces, --model
/// those that recognise them.
#[derive(clap::Args)]
pub struct Args {
    /// Run each model and show the milliseconds per face, or per frame of 640x384
    #[arg(long)]
    time: bool,

    /// What runs the models, with --time: cpu, cuda, tensorrt, openvino, …
    #[arg(
        long,
        value_name = "PROVIDER",
        default_value = "cpu",
        requires = "time"
    )]
    execution_provider: String,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    task: String,
    licence: String,
    description: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

/// The size of a frame for timing detection: what 640x360 is rounded up to.
const FRAME: (usize, usize) = (384, 640);

/// How long each model runs, and the least number of runs.
const RUNS_FOR: Duration = Duration::from_millis(500);
const LEAST_RUNS: u32 = 3;

pub fn run(args: &Args) -> Result<Outcome> {
    let models = model::installed();
    ensure!(
        !models.is_empty(),
        "no model is installed: looked in {}; {}",
        places(),
        model::REMEDY
    );
    let options = session::Options {
        provider: args.execution_provider.clone(),
        ..Default::default()
    };
    let mut progress = None;
    let mut listed = Vec::new();
    for (done, model) in models.iter().enumerate() {
        let mut milliseconds = None;
        if args.time {
            if interrupt::requested() {
                return Ok(Outcome::Interrupted);
            }
            progress
                .get_or_insert_with(|| Progress::new("models", Some(models.len() as u64)))
                .update(done as u64, &model.descriptor.name);
            let time = time(model, &options);
            milliseconds = Some(time.with_context(|| model.descriptor.name.clone())?);
        }
        listed.push(Listed {
            name: model.descriptor.name.clone(),
            task: model.descriptor.task.to_string(),
            licence: model.descriptor.licence.clone(),
            description: model.descriptor.description.clone(),
            path: model.weights.display().to_string(),
            milliseconds,
        });
    }
    drop(progress);
    let text = match args.json {
        true => serde_json::to_string_pretty(&listed)? + "\n",
        false => readable(&listed),
    };
    ui::print(&text)?;
    Ok(Outcome::Done)
}

fn places() -> String {
    let folders = model::search_path();
    let folders = folders.iter().map(|folder| folder.display().to_string());
    folders.collect::<Vec<_>>().join(", ")
}

/// The milliseconds that one inference takes: the minimum of several.
fn time(model: &Model, options: &session::Options) -> Result<f64> {
    let decoder = gstfacedetect::decoder::create(&model.descriptor.decoder);
    let options = session::Options {
        edit: decoder.and_then(|decoder| decoder.edit()),
        ..options.clone()
    };
    let session = session::load(model, &options)?;
    let (height, width) = match (model.descriptor.task, model.descriptor.fixed_size()) {
        (_, Some(size)) => size,
        (Task::Detection, None) => FRAME,
        (_, None) => return Err(session.unfit("it has no fixed input size").into()),
    };
    let mut runner = Runner::new(&session, [1, 3, height, width])?;
    let begun = Instant::now();
    let mut least = f64::INFINITY;
    for run in 0.. {
        if run >= LEAST_RUNS && begun.elapsed() >= RUNS_FOR {
            break;
        }
        let start = Instant::now();
        runner.run()?;
        least = least.min(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok((least * 100.0).round() / 100.0)
}

fn readable(listed: &[Listed]) -> String {
    let timed = listed.iter().any(|model| model.milliseconds.is_some());
    let width = |cell: fn(&Listed) -> &str| {
        let cells = listed.iter().map(|model| cell(model).chars().count());
        cells.max().unwrap_or(0)
    };
    let (name, task, licence) = (
        width(|m| &m.name),
        width(|m| &m.task),
        width(|m| &m.licence).max("licence".len()),
    );
    let head = match timed {
        true => "     ms",
        false => "",
    };
    let mut text = format!(
        "{:name$}  {:task$}  {:licence$}{head}  what it is\n",
        "model", "task", "licence"
    );
    for model in listed {
        let time = model.milliseconds.map(|ms| format!("{ms:>7.2}"));
        text += &format!(
            "{:name$}  {:task$}  {:licence$}{}  {}\n",
            model.name,
            model.task,
            model.licence,
            time.unwrap_or_default(),
            model.description
        );
    }
    text
}
