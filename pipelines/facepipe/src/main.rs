//! `facepipe`: the face pipeline as a program. The elements are linked statically, so it needs no
//! `GST_PLUGIN_PATH`.

// These macros panic if they cannot print, on a full disk for example; `tell!` and `ui::print` do not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod analyze;
mod annotate;
mod bench;
mod cluster;
mod enroll;
mod evaluate;
mod forget;
mod gallery;
mod live;
mod models;
mod name;
mod names;
mod report;
mod run;
mod search;
mod strangers;
mod top;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use face_parts::{address, interrupt, tell, ui};

/// Find, follow and name the faces in videos
///
/// To start, put a few photos of each person into a folder named after them, then
///
///   facepipe enroll people/ -o friends.safetensors
///   facepipe annotate party.mp4 -o party-faces.mp4 --json party.jsonl --gallery friends.safetensors
///   facepipe analyze films/ -o results --gallery friends.safetensors
///   facepipe report results -o report.html
#[derive(Parser)]
#[command(version, verbatim_doc_comment, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, for the reason on standard error; no file was written unless it says so
  2    wrong usage
  3    written, but without some of the images or inputs, or an input ends early;
       gallery verify: found problems;
       forget: something is left
  130  stopped by Ctrl-C before the end";

#[derive(Subcommand)]
enum Command {
    Enroll(enroll::Args),
    Gallery(gallery::Args),
    Annotate(annotate::Args),
    Analyze(analyze::Args),
    Cluster(cluster::Args),
    Name(name::Args),
    Names(names::Args),
    Report(report::Args),
    Evaluate(evaluate::Args),
    Forget(forget::Args),
    Search(search::Args),
    Run(run::Args),
    Live(live::Args),
    Strangers(strangers::Args),
    Top(top::Args),
    Bench(bench::Args),
    Models(models::Args),
}

/// The outcome of a command that did not fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Written, but without some of the images or inputs; or checked, with findings.
    Incomplete,
    /// Ended by Ctrl-C; all written files are complete.
    Interrupted,
}

impl Outcome {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Incomplete => ExitCode::from(3),
            Self::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.command) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            let error = address::redact(&ui::causes(&error));
            tell!("facepipe: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<Outcome> {
    // Before everything else: a signal while GStreamer starts, which may take seconds, counts like
    // any other.
    if matches!(&command, Command::Live(args) if args.runs()) {
        interrupt::reload_on_hangup();
    }
    interrupt::install()?;
    gst::init().context("GStreamer does not start")?;
    register_elements().context("the face elements cannot be registered")?;
    match command {
        Command::Enroll(args) => enroll::run(&args),
        Command::Gallery(args) => gallery::run(&args),
        Command::Annotate(args) => annotate::run(&args),
        Command::Analyze(args) => analyze::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Name(args) => name::run(&args),
        Command::Names(args) => names::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Live(args) => live::run(&args),
        Command::Strangers(args) => strangers::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Models(args) => models::run(&args),
    }
}

/// Registers the statically linked elements with GStreamer.
fn register_elements() -> Result<(), glib::BoolError> {
    gstfacedetect::plugin_register_static()?;
    gstfacetrack::plugin_register_static()?;
    gstfacerecog::plugin_register_static()?;
    gstagegender::plugin_register_static()?;
    gstfacemeta::plugin_register_static()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
