//! The resources of a process, and whether they grow.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub time: Duration,
    /// Resident memory.
    pub mib: f64,
    pub files: usize,
    pub threads: usize,
}

impl Sample {
    /// Samples the process with this id, at `time` of the run.
    pub fn take(process: u32, time: Duration) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))
            .context("the process has ended")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        Ok(Self {
            time,
            mib: field("VmRSS:").context("VmRSS")? / 1024.0,
            threads: field("Threads:").context("Threads")? as usize,
            files: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
        })
    }
}

/// The slope of the memory in MiB per hour, by least squares. `None` for fewer than three samples.
pub fn slope(samples: &[Sample]) -> Option<f64> {
    if samples.len() < 3 {
        return None;
    }
    let count = samples.len() as f64;
    let hours = |sample: &Sample| sample.time.as_secs_f64() / 3600.0;
    let mean_time = samples.iter().map(hours).sum::<f64>() / count;
    let mean = samples.iter().map(|sample| sample.mib).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        let distance = hours(sample) - mean_time;
        above += distance * (sample.mib - mean);
        below += distance * distance;
    }
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_line_is_found() {
        let samples: Vec<Sample> = (0..20)
            .map(|i| Sample {
                time: Duration::from_secs(i * 60),
                mib: 100.0 + 2.0 * i as f64,
                files: 0,
                threads: 0,
            })
            .collect();
        assert!((slope(&samples).expect("a slope") - 120.0).abs() < 1e-6);
        assert!(slope(&samples[..2]).is_none());
        let own = Sample::take(std::process::id(), Duration::ZERO).expect("this process");
        assert!(own.mib > 1.0 && own.threads > 0 && own.files > 2);
    }
}
