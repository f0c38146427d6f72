//! Positions in a configuration file, and the problems found there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1; the column in characters.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// All problems of a configuration, one per line: `live.toml:7:11: camera `door`: …`.
#[derive(Debug, Default)]
pub struct Problems {
    file: Option<PathBuf>,
    pub list: Vec<Problem>,
}

impl Problems {
    pub fn of_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// `Err` if there are any, in the order of their positions.
    pub fn into_result(mut self) -> Result<(), Self> {
        self.list.sort_by_key(|p| (p.line, p.column));
        self.list.dedup();
        match self.list.is_empty() {
            true => Ok(()),
            false => Err(self),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            if let Some(file) = &self.file {
                write!(f, "{}:", file.display())?;
            }
            // Problems are shown on one line each.
            let message: Vec<&str> = problem.message.split_whitespace().collect();
            let message = message.join(" ");
            write!(f, "{}:{}: {message}", problem.line, problem.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The positions of a file's keys, by their paths: `restream.listen`,
/// `camera.0.events.webhooks.1.url`.
pub struct Places {
    text: String,
    keys: BTreeMap<String, Key>,
}

struct Key {
    start: usize,
    value: Range<usize>,
}

impl Places {
    pub fn new(text: &str, table: &DeTable) -> Self {
        let mut places = Self {
            text: text.to_owned(),
            keys: BTreeMap::new(),
        };
        places.add_table("", table);
        places
    }

    fn add_table(&mut self, path: &str, table: &DeTable) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.add(path, key.span().start, value);
        }
    }

    fn add(&mut self, path: String, start: usize, value: &Spanned<DeValue>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(&path, table),
            DeValue::Array(array) => {
                for (i, element) in array.iter().enumerate() {
                    self.add(join(&path, &i.to_string()), element.span().start, element);
                }
            }
            _ => {}
        }
        let value = value.span();
        self.keys.insert(path, Key { start, value });
    }

    /// The path of the innermost key whose value contains `at`.
    pub fn key_at(&self, at: &Range<usize>) -> Option<&str> {
        let holds = |key: &Key| key.value.start <= at.start && at.end <= key.value.end;
        let around = self.keys.iter().filter(|(_, key)| holds(key));
        let innermost = around.min_by_key(|(_, key)| key.value.len());
        innermost.map(|(path, _)| path.as_str())
    }

    /// A problem at an offset of the text.
    pub fn problem_at(&self, offset: usize, message: impl Into<String>) -> Problem {
        problem_at(&self.text, offset, message)
    }

    /// A problem with the value at `path` or, if it does not exist, with the nearest table around it.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let mut path = path;
        let start = loop {
            match self.keys.get(path) {
                Some(key) => break key.start,
                None => path = path.rsplit_once('.').map_or("", |(around, _)| around),
            }
            if path.is_empty() {
                break 0;
            }
        };
        self.problem_at(start, message)
    }

    /// A problem with the value at `path` of a camera, which may come from the defaults.
    pub fn camera_problem(&self, camera: usize, path: &str, message: impl Into<String>) -> Problem {
        let own = format!("camera.{camera}.{path}");
        let defaults = format!("defaults.{path}");
        match !self.keys.contains_key(&own) && self.keys.contains_key(&defaults) {
            true => self.problem(&defaults, message),
            false => self.problem(&own, message),
        }
    }
}

/// A problem at an offset of `text`.
pub fn problem_at(text: &str, offset: usize, message: impl Into<String>) -> Problem {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    Problem {
        line,
        column: before[start..].chars().count() + 1,
        message: message.into(),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// An error in the value of a key.
#[derive(Debug)]
pub struct Wrong {
    pub key: String,
    cause: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.cause)
    }
}

impl std::error::Error for Wrong {}

/// Records the key to which an error belongs. Nested errors get longer paths.
pub trait At<T> {
    fn at(self, key: impl fmt::Display) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> At<T> for Result<T, E> {
    fn at(self, key: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| {
            let wrong = match error.into().downcast::<Wrong>() {
                Ok(inner) => Wrong {
                    key: format!("{key}.{}", inner.key),
                    cause: inner.cause,
                },
                Err(other) => Wrong {
                    key: key.to_string(),
                    cause: format!("{other:#}"),
                },
            };
            wrong.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_place() {
        let text =
            "a = 1\n[[camera]]\nname = \"é\"\n  x = { y = [ { z = 3 } ] }\n[defaults]\nq = 2\n";
        let table = DeTable::parse(text).expect("valid");
        let places = Places::new(text, table.get_ref());
        let place = |path: &str| {
            let problem = places.problem(path, "");
            (problem.line, problem.column)
        };
        assert_eq!(place("a"), (1, 1));
        assert_eq!(place("camera.0.name"), (3, 1));
        assert_eq!(place("camera.0.x.y.0.z"), (4, 17));
        assert_eq!(place("camera.0.x.none"), (4, 3));
        assert_eq!(place("none"), (1, 1));
        assert_eq!(places.camera_problem(0, "q", "").line, 6);
        assert_eq!(places.camera_problem(0, "r", "").line, 2);
        let three = text.find('3').expect("there");
        assert_eq!(places.key_at(&(three..three + 1)), Some("camera.0.x.y.0.z"));
    }

    #[test]
    fn problems_are_a_line_each() {
        let mut problems = Problems::default().of_file(Path::new("live.toml"));
        for (line, message) in [(3, "c\n  d"), (1, "a"), (3, "c\n  d")] {
            problems.list.push(Problem {
                line,
                column: 2,
                message: message.into(),
            });
        }
        let problems = problems.into_result().expect_err("two");
        assert_eq!(problems.to_string(), "live.toml:1:2: a\nlive.toml:3:2: c d");
        assert!(Problems::default().into_result().is_ok());
    }

    #[test]
    fn a_key_in_a_key_has_both_names() {
        let inner: Result<(), _> = Err(anyhow::anyhow!("no"));
        let error = inner.at("url").at("webhooks.0").expect_err("an error");
        assert_eq!(format!("{error:#}"), "webhooks.0.url: no");
    }
}
