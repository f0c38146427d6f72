//! `facepipe top`: shows the cameras of `facepipe live` in a terminal.

mod exposition;
mod model;
mod screen;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::ValueHint;
use serde::Serialize;

use self::exposition::Samples;
use self::model::{COLUMNS, Overview, Scrape};
use crate::Outcome;
use face_live::config;
use face_parts::{address, interrupt, ui};

/// How often to ask the program.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time over which rates are computed.
const WINDOW: Duration = Duration::from_secs(5);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Our answers are shorter.
const MOST_BYTES: u64 = 32 << 20;

/// Watch a running `facepipe live`
///
/// One row per camera, updated every second. Rates cover the last 5 seconds. `work dropped` is the
/// share of frames on which detection was skipped to keep the latency. `recognised` counts tracks
/// that got a name.
///
/// Keys: q or Ctrl-C quits, ← and → choose the column to sort by, r reverses, ↑ and ↓ scroll.
#[derive(clap::Args)]
pub struct Args {
    /// The address of the metrics of `facepipe live`
    #[arg(default_value = "http://127.0.0.1:9402", value_hint = ValueHint::Url)]
    url: String,

    /// Take the address from a configuration of `facepipe live`
    #[arg(long, value_name = "FILE", conflicts_with = "url", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Print the table once, after a second, and exit
    #[arg(long)]
    once: bool,

    /// Print JSON once instead
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let url = match &args.config {
        Some(path) => url_of(path)?,
        None => complete(&args.url),
    };
    let source = Source::new(url);
    if !args.once && !args.json {
        return screen::run(source);
    }
    let mut history = History::default();
    history.add(source.scrape()?);
    let begun = Instant::now();
    while begun.elapsed() < INTERVAL {
        if interrupt::requested() {
            return Ok(Outcome::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    history.add(source.scrape()?);
    let overview = history.overview().context("two scrapes were made")?;
    ui::print(&match args.json {
        true => json(&address::whole(&source.url), &overview)?,
        false => table(&overview),
    })?;
    Ok(Outcome::Done)
}

fn json(url: &str, overview: &Overview) -> Result<String> {
    #[derive(Serialize)]
    struct Cameras<'a> {
        url: &'a str,
        #[serde(flatten)]
        overview: &'a Overview,
    }
    Ok(serde_json::to_string_pretty(&Cameras { url, overview })? + "\n")
}

fn table(overview: &Overview) -> String {
    let head = COLUMNS.map(String::from).to_vec();
    let rows = overview.cameras.iter().chain([&overview.total]);
    let rows: Vec<Vec<String>> = [head]
        .into_iter()
        .chain(rows.map(|row| row.cells().to_vec()))
        .collect();
    format!("{}{}\n", ui::table(&rows), process(overview))
}

/// A line about the process.
fn process(overview: &Overview) -> String {
    let process = &overview.process;
    let mut parts = Vec::new();
    if let Some(version) = &process.version {
        parts.push(format!("facepipe {version}"));
    }
    let mut add = |value: Option<f64>, show: fn(f64) -> String| parts.extend(value.map(show));
    add(process.uptime_seconds, |s| {
        format!(
            "up {}",
            ui::clock(Duration::from_secs_f64(s.clamp(0.0, 1e12)))
        )
    });
    add(process.cpu, |share| format!("CPU {:.0} %", 100.0 * share));
    add(process.resident_bytes, |bytes| {
        format!("{:.0} MiB", bytes / f64::from(1 << 20))
    });
    add(process.threads, |n| ui::count(n as u64, "thread"));
    add(process.open_files, |n| ui::count(n as u64, "open file"));
    parts.join(", ")
}

/// The address that `[server]` in a configuration gives. The rest is ignored: its passwords are
/// none of our business.
fn url_of(path: &Path) -> Result<String> {
    let text = config::read_text(path)?;
    let read = || -> Result<config::Server> {
        let table: toml::Table = toml::from_str(&text)?;
        let server = table.get("server").cloned();
        Ok(server.map_or_else(|| Ok(config::Server::default()), toml::Value::try_into)?)
    };
    let server = read().with_context(|| format!("configuration {}", path.display()))?;
    if server.disabled {
        bail!("configuration {}: [server] is disabled", path.display());
    }
    let mut address = server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(complete(&address.to_string()))
}

/// Completes a URL.
fn complete(url: &str) -> String {
    let url = match url.contains("://") {
        true => url.to_owned(),
        false => format!("http://{url}"),
    };
    let has_path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .is_some_and(|(_, path)| !path.is_empty());
    match has_path {
        true => url,
        false => format!("{}/metrics", url.trim_end_matches('/')),
    }
}

/// The source of the metrics.
struct Source {
    url: String,
    agent: ureq::Agent,
    begun: Instant,
}

impl Source {
    fn new(url: String) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .build();
        Self {
            url,
            agent: config.new_agent(),
            begun: Instant::now(),
        }
    }

    fn scrape(&self) -> Result<Scrape> {
        let read = || -> Result<String> {
            let mut answer = self.agent.get(&self.url).call()?;
            let body = answer.body_mut().with_config().limit(MOST_BYTES);
            Ok(body.read_to_string()?)
        };
        let text = read().with_context(|| {
            format!(
                "{}: no metrics; is `facepipe live` running there?",
                self.url
            )
        })?;
        let samples = Samples::parse(&text);
        if samples.of("facepipe_build_info").next().is_none() {
            bail!("{}: these are not the metrics of `facepipe live`", self.url);
        }
        Ok(Scrape {
            at: self.begun.elapsed(),
            clock: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            samples,
        })
    }
}

/// The scrapes of the last seconds.
#[derive(Default)]
struct History(VecDeque<Scrape>);

impl History {
    fn add(&mut self, scrape: Scrape) {
        let oldest = scrape.at.saturating_sub(WINDOW);
        self.0.push_back(scrape);
        while self.0.len() > 2 && self.0.front().is_some_and(|scrape| scrape.at < oldest) {
            self.0.pop_front();
        }
    }

    fn overview(&self) -> Option<Overview> {
        let newest = self.0.back()?;
        let older = (self.0.len() > 1).then(|| self.0.front()).flatten();
        Some(Overview::of(older, newest))
    }

    /// After an interruption, rates would include the time without data.
    fn forget(&mut self) {
        let newest = self.0.pop_back();
        self.0.clear();
        self.0.extend(newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_be_short() {
        assert_eq!(complete("127.0.0.1:9402"), "http://127.0.0.1:9402/metrics");
        assert_eq!(complete("http://h:1/"), "http://h:1/metrics");
        assert_eq!(
            complete("https://h/faces/metrics"),
            "https://h/faces/metrics"
        );
    }

    #[test]
    fn the_address_stands_in_the_configuration() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("c.toml");
        let url = |text: &str| {
            std::fs::write(&file, text).expect("writable");
            url_of(&file).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(
            url("[[camera]]\nname = \"a\"").as_deref(),
            Ok("http://127.0.0.1:9402/metrics")
        );
        assert_eq!(
            url("[server]\nlisten = \"0.0.0.0:99\"").as_deref(),
            Ok("http://127.0.0.1:99/metrics")
        );
        assert_eq!(
            url("[server]\nlisten = \"[::]:99\"").as_deref(),
            Ok("http://[::1]:99/metrics")
        );
        assert!(url("[server]\ndisabled = true").is_err_and(|error| error.contains("disabled")));
        assert!(url("[server]\nlisten = 7").is_err_and(|error| error.contains("c.toml")));
    }
}
