//! Parsers that belong to a program and not to a library. The folders in here are links to its own.
#![allow(dead_code)]

pub mod evaluate;
pub mod live;

/// What of it the configuration needs looks at the disk, and parses nothing.
mod stages {
    pub fn uri(input: &std::path::Path) -> anyhow::Result<String> {
        Ok(format!("file://{}", input.display()))
    }
}
