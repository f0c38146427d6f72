//! The log: lines of text or JSON on standard error, with our messages and those of GStreamer, GLib
//! and ONNX Runtime. Streaming threads only put lines into a queue.

mod gstreamer;
mod layer;
mod limit;
mod normal;
mod queue;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable with the log filter.
const VARIABLE: &str = "FACEPIPE_LOG";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A readable line: time (UTC), level, camera, message
    #[default]
    Text,
    /// One object per line
    Json,
}

#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Log")]
pub struct Args {
    /// The format of the lines on standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,

    /// What to log: error, warn, info, debug, trace or off, optionally for each part, as in
    /// `info,gstreamer=error`. The default is the variable FACEPIPE_LOG, or info
    ///
    /// GStreamer's own messages are logged from warnings on, and in more detail if GST_DEBUG asks
    /// for it.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// Writes the rest of the queue when it is dropped.
#[must_use]
pub struct Log;

impl Drop for Log {
    fn drop(&mut self) {
        queue::flush(Duration::from_millis(200));
    }
}

/// The number of lines lost because nobody read standard error in time.
pub fn dropped() -> u64 {
    queue::dropped()
}

/// Starts logging.
pub fn install(args: &Args) -> Result<Log> {
    let queue = queue::start().context("the log")?;
    let layer = layer::Lines::new(args.log_format, queue);
    tracing_subscriber::registry()
        .with(filter(args.log.as_deref())?)
        .with(layer)
        .try_init()
        .context("the log")?;
    log_panics();
    gstreamer::install();
    Ok(Log)
}

/// The filter from `wanted`, the variable, or the default.
fn filter(wanted: Option<&str>) -> Result<Targets> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (from, text) = match (wanted, variable) {
        (Some(text), _) => ("--log", text.to_owned()),
        (None, Some(text)) => (VARIABLE, text),
        (None, None) => ("", "info".to_owned()),
    };
    let mut filter: Targets = text.parse().with_context(|| {
        format!("{from}: `{text}` is not a log filter; write a level, as in `info,gstreamer=error`")
    })?;
    // A user who sets GST_DEBUG wants to see everything that it enables.
    if gstreamer::is_asked_for() && !text.contains("gstreamer") {
        filter = filter.with_target("gstreamer", LevelFilter::TRACE);
    }
    Ok(filter)
}

/// Logs panics.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let cause = panic.payload();
        let message = cause
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| cause.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic");
        let place = panic.location().map(ToString::to_string);
        let trace = std::backtrace::Backtrace::capture();
        let trace = (trace.status() == std::backtrace::BacktraceStatus::Captured)
            .then(|| trace.to_string());
        tracing::error!(
            target: "panic",
            thread = std::thread::current().name(),
            place,
            trace,
            "{message}"
        );
        // The process may be about to end.
        queue::flush(Duration::from_millis(100));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_an_error_that_shows_one() {
        assert!(filter(Some("warn")).is_ok());
        assert!(filter(Some("info,gstreamer::rtspsrc=debug")).is_ok());
        assert!(filter(Some("off")).is_ok_and(|off| off.default_level() == Some(LevelFilter::OFF)));
        let error = format!("{:#}", filter(Some("info,=,=x")).expect_err("refused"));
        assert!(
            error.contains("--log") && error.contains("gstreamer=error"),
            "{error}"
        );
    }
}
