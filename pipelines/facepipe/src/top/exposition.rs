//! Parses Prometheus's text format, as far as this program needs it.

/// A value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    labels: Vec<(String, String)>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(known, _)| known == name);
        label.map(|(_, value)| value.as_str())
    }
}

/// The samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Skips lines that are neither comments nor samples.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// All samples with this name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// The first sample with this name that has all `labels`.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            labels
                .iter()
                .all(|(name, value)| sample.label(name) == Some(value))
        };
        self.of(name).find(fits).map(|sample| sample.value)
    }
}

/// `name{label="value",…} value`, optionally followed by a timestamp.
fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The labels up to the closing brace, and the text after it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim().to_owned(), value));
        text = rest;
    }
}

/// The text up to the closing quote, and the text after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_format_allows() {
        let samples = Samples::parse(
            "# HELP a Some text with {brackets=\"x\"} 1\n# TYPE a counter\n\
             a 1\n  b{} 2.5 1700000000000\n\
             c{camera=\"Tür \\\"1\\\"\\\\,}\",stage=\"x\\ny\",} +Inf # {trace=\"7\"} 1\n\
             d{le=\"+Inf\"} NaN\r\n",
        );
        assert_eq!(samples.value("a", &[]), Some(1.0));
        assert_eq!(samples.value("b", &[]), Some(2.5));
        let c = samples.of("c").next().expect("is there");
        assert_eq!(c.label("camera"), Some("Tür \"1\"\\,}"));
        assert_eq!(c.label("stage"), Some("x\ny"));
        assert_eq!(c.value, f64::INFINITY);
        assert!(
            samples
                .value("d", &[("le", "+Inf")])
                .is_some_and(f64::is_nan)
        );
        assert_eq!(samples.value("d", &[("le", "1")]), None);
    }

    #[test]
    fn what_is_no_sample_is_passed_over() {
        let text = "\n<html>\na\na{\na{b}\na{b=\"}\na{b=\"c\" 1\na{b=\"\\\nx{y=\"z\"} one\n{\"json\": 1}\n";
        let samples = Samples::parse(text);
        assert_eq!(samples.of("a").count(), 0, "{samples:?}");
        assert_eq!(samples.of("x").count(), 0);
    }
}
