//! The results of faults.

use std::time::Duration;

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    pub fault: String,
    pub happened: String,
    /// The time from the end of the fault until faces were found again.
    pub good_again: Option<Duration>,
    pub lost: String,
    /// The longest pause of the other camera.
    pub other: Option<Duration>,
}

/// The result of a trial.
#[derive(Debug)]
pub enum Verdict {
    Held(Row),
    Failed(&'static str, anyhow::Error),
    Skipped(&'static str, String),
}

/// The table, in Markdown.
pub fn table(verdicts: &[Verdict]) -> String {
    let seconds = |time: &Option<Duration>| {
        time.map_or("–".into(), |time| format!("{:.1}", time.as_secs_f64()))
    };
    let mut text = String::from(
        "| fault | what happened | good again after, s | lost | longest pause of the other camera, s |\n\
         | --- | --- | ---: | --- | ---: |\n",
    );
    for verdict in verdicts {
        let line = match verdict {
            Verdict::Held(row) => format!(
                "| {} | {} | {} | {} | {} |\n",
                row.fault,
                row.happened,
                seconds(&row.good_again),
                row.lost,
                seconds(&row.other)
            ),
            Verdict::Failed(fault, error) => {
                let error = format!("{error:#}").replace('\n', " ").replace('|', "/");
                format!("| {fault} | FAILED: {error} | | | |\n")
            }
            Verdict::Skipped(fault, reason) => format!("| {fault} | not tried: {reason} | | | |\n"),
        };
        text.push_str(&line);
    }
    text
}
