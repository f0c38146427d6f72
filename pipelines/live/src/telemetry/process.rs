//! The resources of this process as counted by the system (only on Linux).

use std::fs;

/// A snapshot.
#[derive(Debug, Default)]
pub struct Process {
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    /// Seconds since 1970.
    pub started: Option<f64>,
    pub threads: Option<u64>,
    pub open_files: Option<u64>,
    pub most_files: Option<u64>,
}

impl Process {
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let mut process = Self::parse(&stat, system(libc::_SC_CLK_TCK), system(libc::_SC_PAGESIZE));
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
            line.trim().parse::<f64>().ok()
        });
        process.started = process.started.zip(boot).map(|(up, boot)| boot + up);
        // The folder being read is one of them.
        let files = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64);
        process.open_files = files.ok().map(|files| files.saturating_sub(1));
        process.most_files = fs::read_to_string("/proc/self/limits")
            .ok()
            .and_then(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("Max open files"))?;
                line.split_whitespace().next()?.parse().ok()
            });
        process
    }

    /// The processor time of this process, in seconds.
    pub fn read_cpu() -> Option<f64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&stat, system(libc::_SC_CLK_TCK), system(libc::_SC_PAGESIZE)).cpu_seconds
    }

    /// Parses `/proc/PID/stat`. `started` is in seconds since the machine's start.
    fn parse(stat: &str, ticks: f64, page: f64) -> Self {
        // The program's name, in brackets, may itself contain spaces and brackets.
        let Some((_, rest)) = stat.rsplit_once(')') else {
            return Self::default();
        };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first of these is number three in the manual.
        let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
        let seconds = |place| number(place).map(|time| time as f64 / ticks);
        Self {
            resident_bytes: number(24).map(|pages| pages.saturating_mul(page as u64)),
            virtual_bytes: number(23),
            cpu_seconds: seconds(14)
                .zip(seconds(15))
                .map(|(user, system)| user + system),
            started: seconds(22),
            threads: number(20),
            ..Self::default()
        }
    }
}

fn system(name: libc::c_int) -> f64 {
    // SAFETY: sysconf only looks up a number, and returns -1 for unknown names.
    let value = unsafe { libc::sysconf(name) };
    value.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_hold_anything() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 12 0 4200 1048576 64 1";
        let process = Process::parse(stat, 100.0, 4096.0);
        assert_eq!(process.cpu_seconds, Some(3.0));
        assert_eq!(process.threads, Some(12));
        assert_eq!(process.started, Some(42.0));
        assert_eq!(process.virtual_bytes, Some(1 << 20));
        assert_eq!(process.resident_bytes, Some(64 * 4096));
        assert!(Process::parse("", 100.0, 4096.0).threads.is_none());
        assert!(Process::parse("7 (x) S 1", 100.0, 4096.0).threads.is_none());
    }

    #[test]
    fn this_process_is_alive() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(
            process
                .open_files
                .is_some_and(|files| (3..10_000).contains(&files))
        );
        assert!(process.started.is_some_and(|at| at > 1.6e9));
        assert!(process.most_files >= process.open_files);
    }
}
