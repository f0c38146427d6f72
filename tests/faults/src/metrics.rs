//! Reads facepipe's metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

/// Samples of the Prometheus text format, by name and labels exactly as written.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn read(port: u16) -> Result<Self> {
        let text = get(port, "/metrics")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (key, value) = line.rsplit_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(sample)
                .collect(),
        )
    }

    /// The value for a camera, or 0 if it is missing.
    pub fn of(&self, name: &str, camera: &str) -> f64 {
        let key = format!("{name}{{camera=\"{camera}\"}}");
        self.0.get(&key).copied().unwrap_or(0.0)
    }

    /// The value with these labels, in the order in which they are written, or 0 if it is missing.
    pub fn labelled(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let key = format!("{name}{{{}}}", labels.join(","));
        self.0.get(&key).copied().unwrap_or(0.0)
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        let of = |key: &str| key == name || key.starts_with(&format!("{name}{{"));
        self.0
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, value)| value)
            .sum()
    }
}

pub fn get(port: u16, path: &str) -> Result<String> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .build(),
    );
    let mut answer = agent
        .get(format!("http://127.0.0.1:{port}{path}"))
        .call()
        .with_context(|| format!("{path} at port {port}"))?;
    Ok(answer.body_mut().read_to_string()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_camera_and_summed_over_all() {
        let text =
            "# HELP a_total x\na_total{camera=\"door\"} 3\na_total{camera=\"hall\"} 4\nb 1\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.of("a_total", "door"), 3.0);
        assert_eq!(metrics.of("a_total", "none"), 0.0);
        assert_eq!(metrics.sum("a_total"), 7.0);
        assert_eq!(metrics.sum("b"), 1.0);
    }
}
