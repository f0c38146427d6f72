//! Reads the folder of results.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::enroll::visible_entries;
use crate::record::{self, Clusters, Summary};

/// The supported version of the formats.
const VERSION: u32 = 1;

/// The results of one input.
pub struct InputResults {
    /// The name of its folder.
    pub name: String,
    pub folder: PathBuf,
    pub summary: Summary,
}

pub struct Results {
    pub folder: PathBuf,
    /// Sorted by name.
    pub inputs: Vec<InputResults>,
    /// `None` if `facepipe cluster` did not run.
    pub clusters: Option<Clusters>,
}

pub struct Loaded {
    pub results: Results,
    /// What was left out, and why.
    pub problems: Vec<String>,
}

/// Reads all results in `folder`. Fails if none can be read.
pub fn load(folder: &Path) -> Result<Loaded> {
    let name = folder.display();
    ensure!(folder.exists(), "there is no folder {name}");
    ensure!(
        folder.is_dir(),
        "{name} is not a folder; give the folder that `facepipe analyze` wrote with -o"
    );
    let mut inputs = Vec::new();
    let mut problems = Vec::new();
    for path in visible_entries(folder)? {
        let file = path.join("summary.json");
        if !file.is_file() {
            continue;
        }
        match summary(&file) {
            Ok(summary) => inputs.push(InputResults {
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                folder: path,
                summary,
            }),
            Err(error) => problems.push(format!(
                "left out: {error:#}; analyse this input again with `facepipe analyze --force`"
            )),
        }
    }
    if inputs.is_empty() {
        match problems.first() {
            Some(problem) => bail!("{name} has no results that can be read; {problem}"),
            None => bail!(
                "{name} has no results: no folder in it has a summary.json; \
                 `facepipe analyze INPUT -o {name}` writes them"
            ),
        }
    }
    let clusters = clusters(&folder.join("clusters.json")).unwrap_or_else(|error| {
        problems.push(format!(
            "left out the groups of unknown people: {error:#}; recreate them with `facepipe cluster`"
        ));
        None
    });
    Ok(Loaded {
        results: Results {
            folder: folder.to_owned(),
            inputs,
            clusters,
        },
        problems,
    })
}

fn summary(path: &Path) -> Result<Summary> {
    let summary: Summary = record::read(path)?;
    check_version(summary.version).with_context(|| path.display().to_string())?;
    Ok(summary)
}

fn clusters(path: &Path) -> Result<Option<Clusters>> {
    if !path.exists() {
        return Ok(None);
    }
    let clusters: Clusters = record::read(path)?;
    check_version(clusters.version).with_context(|| path.display().to_string())?;
    Ok(Some(clusters))
}

fn check_version(version: u32) -> Result<()> {
    ensure!(
        version == VERSION,
        "format version {version} is not supported, only {VERSION}"
    );
    Ok(())
}
