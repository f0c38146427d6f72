//! The log: lines of text or JSON on standard error, in which the messages of GStreamer, GLib and ONNX
//! Runtime stand beside our own. Streaming threads only put lines into a queue.

mod gstreamer;
mod layer;
mod limit;
mod normal;
mod queue;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable for what is logged.
const VARIABLE: &str = "FACEPIPE_LOG";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for people: time (UTC), level, camera, message
    #[default]
    Text,
    /// An object a line
    Json,
}

#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Log")]
pub struct Args {
    /// What the lines on standard error look like
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,

    /// What is logged: error, warn, info, debug, trace or off, also by part, as in
    /// `info,gstreamer=error`; else the variable FACEPIPE_LOG, else info
    ///
    /// GStreamer's own messages are in the log from warnings on, and as many more as GST_DEBUG asks for.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// Writes what is still in the queue when it is dropped.
#[must_use]
pub struct Log;

impl Drop for Log {
    fn drop(&mut self) {
        queue::flush(Duration::from_millis(200));
    }
}

/// Lines that nobody took from standard error in time.
pub fn dropped() -> u64 {
    queue::dropped()
}

/// Begins to log.
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

/// `wanted`, or the variable, or what is sensible.
fn filter(wanted: Option<&str>) -> Result<EnvFilter> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (from, text) = match (wanted, variable) {
        (Some(text), _) => ("--log", text.to_owned()),
        (None, Some(text)) => (VARIABLE, text),
        (None, None) => ("", "info".to_owned()),
    };
    let mut filter = EnvFilter::builder().parse(&text).with_context(|| {
        format!(
            "{from}: `{text}` says not what to log; write a level, as in `info,gstreamer=error`"
        )
    })?;
    // Whoever sets GST_DEBUG wants to see all that it lets through.
    if gstreamer::is_asked_for() && !text.contains("gstreamer") {
        filter = filter.add_directive("gstreamer=trace".parse().context("a constant")?);
    }
    Ok(filter)
}

/// Panics become lines of the log.
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
        let error = format!("{:#}", filter(Some("info,=,=x")).expect_err("refused"));
        assert!(
            error.contains("--log") && error.contains("gstreamer=error"),
            "{error}"
        );
    }
}
