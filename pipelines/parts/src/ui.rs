//! What users see while they wait and at the end: progress and tables.

mod delayed;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use face_meta::names;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use unicode_width::UnicodeWidthStr;

use crate::output::Output;
use crate::{interrupt, tell};

pub use delayed::DelayedProgress;

/// How often to print progress where it cannot be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress on standard error: a bar on a terminal, otherwise a line now and then.
pub struct Progress {
    task: String,
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    total: Option<u64>,
    printed: Option<Instant>,
    /// The board to which it belongs, and its place there.
    board: Option<(Arc<Board>, usize)>,
}

impl Progress {
    /// Progress over `total` steps, or over an unknown number. `task` starts every line.
    pub fn new(task: &str, total: Option<u64>) -> Self {
        let mut progress = Self::of(task, stderr().is_terminal().then(ProgressBar::no_length));
        progress.set_total(total);
        progress
    }

    fn of(task: &str, bar: Option<ProgressBar>) -> Self {
        if let Some(bar) = &bar {
            bar.set_style(style(false, false));
            bar.set_prefix(task.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self {
            task: task.to_owned(),
            bar,
            total: None,
            printed: None,
            board: None,
        }
    }

    /// Sets the number of steps, once it is known.
    pub fn set_total(&mut self, total: Option<u64>) {
        if let (Some(bar), Some(length)) = (&self.bar, total) {
            bar.set_style(style(true, self.board.is_some()));
            bar.set_length(length);
        }
        self.total = total;
    }

    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Shows that `done` steps are done, with `message`.
    pub fn update(&mut self, done: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message.to_owned());
        }
        if let Some((board, place)) = &self.board {
            let share = self.total.filter(|total| *total > 0);
            let share = share.map_or(0.0, |total| (done as f64 / total as f64).min(1.0));
            board.update(*place, &self.task, share, message);
        } else if self.bar.is_none() && self.printed.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.printed = Some(Instant::now());
            match self.total.filter(|total| *total > 0) {
                Some(total) => {
                    tell!(
                        "{}: {} %, {message}",
                        self.task,
                        (100 * done / total).min(100)
                    )
                }
                None => tell!("{}: {message}", self.task),
            }
        }
    }

    /// Prints a permanent line above the bar.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell!("{}: {line}", self.task)),
            None => tell!("{}: {line}", self.task),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some((board, place)) = &self.board {
            board.leave(*place);
        }
    }
}

/// The progress of several inputs at once: on a terminal a bar for each and one for all, otherwise
/// a line now and then.
pub struct Board {
    inputs: u64,
    started: Instant,
    bars: Option<MultiProgress>,
    state: Mutex<BoardState>,
}

struct BoardState {
    all: Progress,
    places: usize,
    done: u64,
    /// By place: label, share done, message.
    running: BTreeMap<usize, (String, f64, String)>,
}

impl Board {
    /// A board for this number of inputs, at least one.
    pub fn new(task: &str, inputs: u64) -> Arc<Self> {
        let bars = stderr().is_terminal().then(MultiProgress::new);
        let bar = bars.as_ref().map(|bars| bars.add(ProgressBar::no_length()));
        let mut all = Progress::of(task, bar);
        all.set_total(Some(1000 * inputs));
        Arc::new(Self {
            inputs,
            started: Instant::now(),
            bars,
            state: Mutex::new(BoardState {
                all,
                places: 0,
                done: 0,
                running: BTreeMap::new(),
            }),
        })
    }

    /// The progress of one input, which counts as done when this is dropped.
    pub fn input(self: &Arc<Self>, label: &str) -> Progress {
        let bars = self.bars.as_ref();
        let bar = bars.map(|bars| bars.insert_from_back(1, ProgressBar::no_length()));
        let mut progress = Progress::of(label, bar);
        let mut state = self.state.lock();
        state.places += 1;
        progress.board = Some((self.clone(), state.places));
        if let Some(bar) = &progress.bar {
            bar.set_style(style(false, true));
        }
        progress
    }

    fn update(&self, place: usize, label: &str, share: f64, message: &str) {
        let mut state = self.state.lock();
        let entry = (label.to_owned(), share, message.to_owned());
        state.running.insert(place, entry);
        self.show(&mut state);
    }

    fn leave(&self, place: usize) {
        let mut state = self.state.lock();
        state.running.remove(&place);
        state.done += 1;
        self.show(&mut state);
    }

    fn show(&self, state: &mut BoardState) {
        let shares: f64 = state.running.values().map(|(_, share, _)| share).sum();
        let done = state.done as f64 + shares;
        let mut message = format!("{} of {}", state.done, count(self.inputs, "input"));
        let elapsed = self.started.elapsed();
        // Loading the models takes the first second.
        if done > 0.0 && elapsed >= Duration::from_secs(2) {
            let left = elapsed.mul_f64((self.inputs as f64 / done - 1.0).max(0.0));
            message += &format!(", {} left", clock(left));
        }
        if self.bars.is_none() {
            for (label, _, text) in state.running.values() {
                message += &format!("; {label}: {text}");
            }
        }
        state.all.update((1000.0 * done) as u64, &message);
    }

    /// Prints a permanent line.
    pub fn note(&self, line: &str) {
        self.state.lock().all.note(line);
    }
}

fn style(known_length: bool, one_of_several: bool) -> ProgressStyle {
    let template = match (known_length, one_of_several) {
        (true, false) => "{prefix} {bar:30} {percent:>3} % {wide_msg}",
        (true, true) => "{prefix:20!} {bar:12} {percent:>3} % {wide_msg}",
        (false, false) => "{prefix} {spinner} {wide_msg}",
        (false, true) => "{prefix:20!} {spinner} {wide_msg}",
    };
    ProgressStyle::with_template(template).expect("the template is a valid constant")
}

/// Shows the progress of a video processed up to `position` of `duration` in `elapsed`.
pub fn video_progress(
    position: Duration,
    duration: Option<Duration>,
    frames: u64,
    elapsed: Duration,
) -> String {
    let fps = rate(frames as f64, elapsed);
    let Some(duration) = duration else {
        return format!(
            "{}, {}, {fps:.1} fps",
            clock(position),
            count(frames, "frame")
        );
    };
    let speed = rate(position.as_secs_f64(), elapsed);
    let left = duration.saturating_sub(position).as_secs_f64();
    // The first frames are slower.
    let eta = if elapsed >= Duration::from_secs(2) && speed > 0.0 {
        clock(Duration::from_secs_f64(left / speed))
    } else {
        "?".into()
    };
    format!(
        "{} of {}, {fps:.1} fps, {eta} left",
        clock(position),
        clock(duration)
    )
}

/// The rate of `done` steps of `total` in `elapsed`, and the time left.
pub fn steps_left(done: u64, total: u64, elapsed: Duration) -> String {
    let speed = rate(done as f64, elapsed);
    if speed == 0.0 {
        return "? left".into();
    }
    let left = total.saturating_sub(done) as f64 / speed;
    let left = clock(Duration::from_secs_f64(left.min(1e9)));
    format!("{speed:.1}/s, {left} left")
}

/// Escapes a name or source from a file that others may have written, so that it breaks no line and
/// no terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    match names::is_printable(text) {
        true => text.into(),
        false => names::quoted(text).into(),
    }
}

/// An error with its causes, each said once. Some errors of other crates print their own cause and
/// hand it out as well.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let known = text.trim_end_matches('.');
        if text.is_empty() {
            text = cause;
        } else if !known.ends_with(cause.trim_end_matches('.')) {
            text += &format!(": {cause}");
        }
    }
    text
}

/// Where a command prints its final words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Stdout,
    Stderr,
}

impl Place {
    /// Standard error if the command's output occupies standard output. JSON must not go there.
    pub fn beside(output: &Output, json: bool) -> Result<Self> {
        ensure!(
            !(json && output.is_stdout()),
            "the output and --json both go to standard output; name a file to write"
        );
        Ok(match output.is_stdout() {
            true => Self::Stderr,
            false => Self::Stdout,
        })
    }

    pub fn print(self, text: &str) -> Result<()> {
        match self {
            Self::Stdout => return print(text),
            Self::Stderr => tell(text),
        }
        Ok(())
    }
}

/// Prints to standard output. A reader that has left early is not an error.
pub fn print(text: &str) -> Result<()> {
    let _waiting = interrupt::waiting();
    let mut stdout = stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}

/// The outcome of printing the summary of a command that has `written` its files, which stay.
pub fn summary(printed: Result<()>, written: bool) -> Result<()> {
    match written {
        true => printed.context("all is written, but its summary is not"),
        false => printed,
    }
}

/// `count` per second; 0 if no time has passed.
pub fn rate(count: f64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// `1:02:03`, or `02:03` below an hour.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round().min(1e12) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// `1 face`, `2 faces`.
pub fn count(number: u64, noun: &str) -> String {
    match (number, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "person") => format!("{number} people"),
        _ => format!("{number} {noun}s"),
    }
}

/// Aligns columns, the first to the left and the others to the right. The first row is the header,
/// and a rule precedes the last row.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            rows.iter()
                .filter_map(|r| r.get(i))
                .map(|c| c.width())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1));
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        if i == 1 || (i > 1 && i + 1 == rows.len()) {
            out.push_str(&rule);
            out.push('\n');
        }
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                let space = " ".repeat(width - cell.width());
                if column == 0 {
                    format!("{cell}{space}")
                } else {
                    format!("{space}{cell}")
                }
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "no picture: {}", self.0)
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = anyhow::Error::new(Outer(std::io::Error::other("bad signature.")));
        assert_eq!(
            format!("{error:#}"),
            "no picture: bad signature.: bad signature."
        );
        assert_eq!(causes(&error), "no picture: bad signature.");
        assert_eq!(
            causes(&error.context("a.png")),
            "a.png: no picture: bad signature."
        );
        assert_eq!(causes(&anyhow::anyhow!("alone")), "alone");
    }

    #[test]
    fn columns_are_aligned_whatever_the_script() {
        let rows = [
            ["person", "faces"],
            ["李雷", "2"],
            ["ann", "10"],
            ["2 people", "12"],
        ]
        .map(|row| row.map(String::from).to_vec());
        let expected = "person    faces\n---------------\n李雷          2\nann          10\n\
                        ---------------\n2 people     12\n";
        assert_eq!(table(&rows), expected);
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(clock(Duration::from_secs(59)), "00:59");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
        assert_eq!(count(1, "face"), "1 face");
        assert_eq!(count(0, "face"), "0 faces");
        assert_eq!(count(2, "person"), "2 people");
    }

    #[test]
    fn what_is_left_follows_from_the_speed_so_far() {
        let s = Duration::from_secs;
        let text = video_progress(s(10), Some(s(40)), 250, s(5));
        assert_eq!(text, "00:10 of 00:40, 50.0 fps, 00:15 left");
        assert_eq!(
            video_progress(s(10), None, 250, s(5)),
            "00:10, 250 frames, 50.0 fps"
        );
        assert_eq!(steps_left(20, 80, s(5)), "4.0/s, 00:15 left");
        assert_eq!(steps_left(0, 80, s(5)), "? left");
        assert!(video_progress(s(0), Some(s(40)), 0, s(0)).ends_with("? left"));
    }
}
