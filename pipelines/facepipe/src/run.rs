//! `facepipe run`: plays a ready pipeline with values for its variables.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use serde::Serialize;

use crate::Outcome;
use face_parts::ready::{self, Template};
use face_parts::tell;
use face_parts::ui;

/// Run a ready pipeline
///
/// --list shows the pipelines with their variables. Variables without a default must be given. Values
/// are taken literally, including spaces and quotes; an empty one (gallery=) leaves the property unset.
/// Files get their names when they are complete. Ctrl-C ends early and keeps what was done; a second
/// Ctrl-C quits at once and keeps nothing.
///
///   facepipe run file-to-json input=party.mp4 gallery=friends.safetensors
///   facepipe run rtsp-to-screen input=rtsp://camera/stream --print
///
/// A pipeline of your own is a text file. Lines that begin with # describe it, with one line for each
/// variable; below them is what gst-launch-1.0 takes, on any number of lines:
///
///   # Small pictures of a video
///   # ${input}: the video file
///   # ${width=320}: pixels
///   filesrc location=${input} ! decodebin ! videoscale ! video/x-raw,width=${width}
///       ! jpegenc ! multifilesink location=%05d.jpg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The name of a pipeline, or the path of a file that contains one
    #[arg(required_unless_present = "list")]
    name: Option<String>,

    /// Values for its variables
    #[arg(value_name = "VARIABLE=VALUE",
          value_parser = OsStringValueParser::new().try_map(assignment))]
    values: Vec<(String, String)>,

    /// Print the equivalent gst-launch-1.0 line instead of running it (it needs the plugins: `make
    /// install`, or GST_PLUGIN_PATH)
    #[arg(long, conflicts_with = "list")]
    print: bool,

    /// Show all pipelines, or the named one, with their variables
    #[arg(long, conflicts_with = "values")]
    list: bool,

    /// With --list: print JSON
    #[arg(long, requires = "list")]
    json: bool,
}

fn assignment(text: OsString) -> Result<(String, String), &'static str> {
    let text = text.to_str().ok_or(
        "it is not UTF-8, as GStreamer's descriptions of pipelines are; rename the file, or use \
         `facepipe annotate` or `analyze`, which take any name",
    )?;
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected VARIABLE=VALUE"),
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    let name = args.name.as_deref();
    if args.list {
        list(name, args.json)?;
        return Ok(Outcome::Done);
    }
    let name = name.context("clap requires a name")?;
    let template = ready::find(name)?;
    let mut values = BTreeMap::new();
    for (variable, value) in &args.values {
        if values.insert(variable.clone(), value.clone()).is_some() {
            misuse(&format!("{variable} is given twice"));
        }
    }
    if let Some(objection) = template.objection(&values) {
        misuse(&format!("{name}: {objection}"));
    }
    let description = template.fill(&values)?;
    if args.print {
        ui::print(&(description.shell() + "\n"))?;
        return Ok(Outcome::Done);
    }
    let Some(played) = ready::play(name, &description.launch())? else {
        tell!("run: stopped by Ctrl-C before the first frame, no file was written");
        return Ok(Outcome::Interrupted);
    };
    tell!("run: {}", played.summary);
    for complaint in played.complaints.iter().chain(&played.flaws) {
        tell!("run: {complaint}");
    }
    for output in played.outputs {
        tell!("run: wrote {}", output.keep()?);
    }
    Ok(match (played.interrupted, played.flaws.is_empty()) {
        (true, _) => Outcome::Interrupted,
        (false, false) => Outcome::Incomplete,
        (false, true) => Outcome::Done,
    })
}

/// Exits as after any wrong usage.
fn misuse(message: &str) -> ! {
    use clap::Args as _;
    Args::augment_args(clap::Command::new("facepipe run"))
        .error(ErrorKind::InvalidValue, message)
        .exit()
}

/// A pipeline as printed by `--list --json`.
#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    template: Template,
}

fn list(name: Option<&str>, json: bool) -> Result<()> {
    let names = match name {
        Some(name) => vec![name],
        None => ready::ALL.iter().map(|(name, _)| *name).collect(),
    };
    let entry = |name: &str| {
        Ok(Entry {
            name: name.to_owned(),
            template: ready::find(name)?,
        })
    };
    let entries = names.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
    if json {
        return ui::print(&(serde_json::to_string_pretty(&entries)? + "\n"));
    }
    let blocks: Vec<String> = entries
        .iter()
        .map(|Entry { name, template }| {
            let mut block = format!("{name}: {}\n", template.title);
            if !template.comment.is_empty() {
                block += &format!("  {}\n", template.comment.replace('\n', "\n  "));
            }
            block + &template.table()
        })
        .collect();
    ui::print(&blocks.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parse() {
        gst::init().expect("GStreamer starts");
        crate::register_elements().expect("linked in");
        for (name, _) in ready::ALL {
            let template = ready::find(name).unwrap_or_else(|e| panic!("{e:#}"));
            assert!(!template.title.is_empty(), "{name}");
            let required = template.variables.iter().filter(|v| v.default.is_none());
            let values: BTreeMap<_, _> = required
                .map(|v| (v.name.clone(), "rtsp://host/stream".to_owned()))
                .collect();
            assert_eq!(template.objection(&values), None, "{name}");
            let line = template.fill(&values).expect("all values").launch();
            let pipeline = gst::parse::launch_full(&line, None, gst::ParseFlags::FATAL_ERRORS);
            assert!(pipeline.is_ok(), "{name}: {:?}", pipeline.err());
        }
    }
}
