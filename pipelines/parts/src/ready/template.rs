//! Parses a ready pipeline, the text of a `.gst` file, and fills in its variables.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::{pictures, syntax};

/// A `.gst` file: comment lines, beginning with a title, then a launch line that may span several
/// lines.
#[derive(Debug, Serialize)]
pub struct Template {
    pub title: String,
    pub comment: String,
    pub variables: Vec<Variable>,
    /// The words of each line of the description.
    #[serde(skip)]
    body: Vec<Vec<String>>,
}

/// A comment line `# ${name}: meaning` or `# ${name=default}: meaning`.
#[derive(Debug, Serialize)]
pub struct Variable {
    pub name: String,
    /// `None` if a value is required.
    pub default: Option<String>,
    pub meaning: String,
}

impl Variable {
    fn parse(line: &str) -> Option<Self> {
        let (declared, meaning) = line.strip_prefix("${")?.split_once("}:")?;
        let (name, default) = match declared.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (declared, None),
        };
        Some(Self {
            name: name.to_owned(),
            default,
            meaning: meaning.trim().to_owned(),
        })
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Self> {
        let mut comment = Vec::new();
        let mut variables: Vec<Variable> = Vec::new();
        let mut body = Vec::new();
        for line in text.lines().map(str::trim) {
            let Some(remark) = line.strip_prefix('#') else {
                body.extend((!line.is_empty()).then(|| syntax::words(line)));
                continue;
            };
            let remark = remark.trim();
            match Variable::parse(remark) {
                Some(variable) => {
                    let name = &variable.name;
                    let twice = variables.iter().any(|v| v.name == *name);
                    ensure!(!twice, "the variable {name} is declared twice");
                    variables.push(variable);
                }
                None => comment.push(remark),
            }
        }
        ensure!(!body.is_empty(), "it contains no pipeline");
        let title = match comment.is_empty() {
            true => String::new(),
            false => comment.remove(0).to_owned(),
        };
        let template = Self {
            title,
            comment: comment.join("\n").trim().to_owned(),
            variables,
            body,
        };
        template.check()?;
        Ok(template)
    }

    /// Fails unless the declared and the used variables are the same.
    fn check(&self) -> Result<()> {
        let used: Vec<&str> = self.body.iter().flatten().flat_map(|w| uses(w)).collect();
        for name in &used {
            ensure!(
                self.variable(name).is_some(),
                "it uses a variable ${{{name}}} that it does not declare; add a line \
                 `# ${{{name}}}: what it means`"
            );
        }
        for Variable { name, .. } in &self.variables {
            ensure!(
                used.contains(&name.as_str()),
                "it declares a variable ${{{name}}} that it does not use"
            );
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|v| v.name == name)
    }

    /// Says what is wrong with the names of `values`, if anything: missing or unknown ones.
    pub fn objection(&self, values: &BTreeMap<String, String>) -> Option<String> {
        let unknown = values.keys().filter(|name| self.variable(name).is_none());
        let missing = self
            .variables
            .iter()
            .filter(|v| v.default.is_none() && !values.contains_key(&v.name));
        let objections: Vec<String> = unknown
            .map(|name| format!("there is no variable {name}"))
            .chain(missing.map(|v| format!("{} is missing: {}", v.name, v.meaning)))
            .collect();
        (!objections.is_empty())
            .then(|| format!("{}\n\nVariables:\n{}", objections.join("; "), self.table()))
    }

    /// The variables, one per line.
    pub fn table(&self) -> String {
        let heads: Vec<String> = self
            .variables
            .iter()
            .map(|v| match &v.default {
                Some(default) => format!("{}={default}", v.name),
                None => format!("{} (required)", v.name),
            })
            .collect();
        // So that one long default does not push all meanings to the right.
        let width = heads.iter().map(|h| h.len()).filter(|l| *l <= 24).max();
        let width = width.unwrap_or(0);
        heads
            .iter()
            .zip(&self.variables)
            .map(|(head, v)| format!("  {head:width$}  {}\n", v.meaning))
            .collect()
    }

    /// Fills in these values.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<Description> {
        let value = |name: &str| -> Result<&str> {
            let variable = self.variable(name).context("checked while parsing")?;
            values
                .get(name)
                .or(variable.default.as_ref())
                .map(String::as_str)
                .with_context(|| format!("{name} is missing"))
        };
        let fill = |line: &Vec<String>| {
            let words = line
                .iter()
                .map(|word| fill_word(&set_fields(word, value)?, value));
            words.collect()
        };
        let mut lines = self.body.iter().map(fill).collect::<Result<Vec<_>>>()?;
        pictures::decode(&mut lines);
        Ok(Description(lines))
    }
}

/// The names of the variables that `word` uses.
fn uses(word: &str) -> impl Iterator<Item = &str> {
    word.split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// A word without the caps fields whose variable is empty; those are left open.
fn set_fields<'a>(word: &str, value: impl Fn(&str) -> Result<&'a str>) -> Result<String> {
    if syntax::property(word).is_some() || !word.contains(',') {
        return Ok(word.to_owned());
    }
    let is_set = |field: &&str| -> Result<bool> {
        let mut values = uses(field).map(&value);
        values.try_fold(true, |set, value| Ok(set && !value?.is_empty()))
    };
    let mut fields = Vec::new();
    for field in word.split(',') {
        if is_set(&field)? {
            fields.push(field);
        }
    }
    Ok(fields.join(","))
}

/// Fills in the variables of one word of a description.
fn fill_word<'a>(word: &str, value: impl Fn(&str) -> Result<&'a str>) -> Result<String> {
    let Some((head, mut rest)) = word.split_once("${") else {
        return Ok(word.to_owned());
    };
    let mut out = head.to_owned();
    let whole = head.ends_with('=') && rest.find('}') == Some(rest.len() - 1);
    loop {
        let Some((name, behind)) = rest.split_once('}') else {
            bail!("`{word}`: a variable is written ${{name}}");
        };
        let text = value(name)?;
        out += &match syntax::property(head) {
            Some(property) if whole => syntax::value(property, text),
            Some(_) => syntax::escape(text),
            None => syntax::plain(text),
        }
        .with_context(|| format!("{name}={text}"))?;
        let Some((between, next)) = behind.split_once("${") else {
            out += behind;
            return Ok(out);
        };
        out += between;
        rest = next;
    }
}

/// A pipeline in GStreamer's launch syntax: the words of each line.
pub struct Description(Vec<Vec<String>>);

impl Description {
    /// In the form that `gst_parse_launch` takes.
    pub fn launch(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|words| words.join(" ")).collect();
        lines.join(" ")
    }

    /// The words as `gst-launch-1.0` needs them: its `filesink` does not know `-` and would
    /// truncate standard output if that is a file.
    fn plain(&self) -> Vec<Vec<String>> {
        const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
        let mut in_sink = false;
        let mut plain = |word: &String| -> Vec<String> {
            in_sink = match word.as_str() {
                "!" => false,
                "filesink" => true,
                _ => in_sink,
            };
            match word.strip_prefix("location=") {
                Some(path) if in_sink && STDOUT.contains(&path) => {
                    ["location=/dev/stdout", "append=true"]
                        .map(String::from)
                        .to_vec()
                }
                _ => vec![word.clone()],
            }
        };
        let lines = self.0.iter();
        lines
            .map(|line| line.iter().flat_map(&mut plain).collect())
            .collect()
    }

    /// In the form that a shell takes.
    pub fn shell(&self) -> String {
        let words = |line: &Vec<String>| -> String {
            let words: Vec<_> = line.iter().map(|w| syntax::shell_word(w)).collect();
            words.join(" ")
        };
        let lines: Vec<String> = self.plain().iter().map(words).collect();
        format!("gst-launch-1.0 -q -e {}", lines.join(" \\\n    "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Counts\n#\n# Long ago.\n# ${input}: a file\n# ${n=5}: how many\n# ${to=}: where\n\
        filesrc location=${input} num-buffers=${n}\n  ! video/x-raw,width=${n} ! filesink location=${to}";

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    fn error(text: &str) -> String {
        Template::parse(text).expect_err("refused").to_string()
    }

    #[test]
    fn comments_declare_the_variables() {
        let template = Template::parse(TEXT).expect("valid");
        assert_eq!(
            (template.title.as_str(), template.comment.as_str()),
            ("Counts", "Long ago.")
        );
        assert_eq!(
            template.table(),
            "  input (required)  a file\n  n=5               how many\n  to=               where\n"
        );
        assert!(error("# ${a}: x\nfakesrc").contains("does not use"));
        assert!(error("fakesrc name=${a}").contains("does not declare"));
        assert!(error("# ${a}: x\n# ${a}: y\nfakesrc name=${a}").contains("twice"));
        assert!(error("# nothing\n").contains("no pipeline"));
    }

    #[test]
    fn values_and_defaults_are_filled_in() {
        let template = Template::parse(TEXT).expect("valid");
        let filled = template.fill(&values(&[("input", "a b.mp4")]));
        let filled = filled.expect("all there");
        assert_eq!(
            filled.launch(),
            "filesrc location=a\\ b.mp4 num-buffers=5 ! video/x-raw,width=5 ! filesink location=NULL"
        );
        assert_eq!(
            filled.shell(),
            "gst-launch-1.0 -q -e filesrc 'location=a b.mp4' num-buffers=5 \\\n    ! \
             video/x-raw,width=5 ! filesink location=NULL"
        );
        let two = Template::parse("# ${a=x}: .\n# ${b=y}: .\nfilesink location=${a}/${b}.ts");
        let two = two.expect("valid").fill(&values(&[("a", "p q")]));
        assert_eq!(
            two.expect("filled").launch(),
            "filesink location=p\\ q/y.ts"
        );
    }

    #[test]
    fn a_field_of_caps_without_a_value_is_left_out() {
        let text = "# ${n=}: .\n# ${to=}: .\nfakesrc ! video/x-raw,format=I420,width=[16,64,2],framerate=${n}/1 ! \
            filesink location=${to}";
        let template = Template::parse(text).expect("valid");
        let line = |pairs| template.fill(&values(pairs)).expect("filled").launch();
        assert_eq!(
            line(&[]),
            "fakesrc ! video/x-raw,format=I420,width=[16,64,2] ! filesink location=NULL"
        );
        assert_eq!(
            line(&[("n", "30"), ("to", "a,b")]),
            "fakesrc ! video/x-raw,format=I420,width=[16,64,2],framerate=30/1 ! filesink location=a,b"
        );
    }

    #[test]
    fn gst_launch_appends_to_standard_output() {
        let text = "# ${to}: .\nfilesrc location=${to} ! tee name=t ! queue\n  ! filesink sync=false \
            location=${to}\n  t. ! filesink location=${to}2";
        let template = Template::parse(text).expect("valid");
        for to in ["-", "/dev/stdout", "/dev/fd/1"] {
            let filled = template.fill(&values(&[("to", to)])).expect("all there");
            assert_eq!(
                filled.shell(),
                format!(
                    "gst-launch-1.0 -q -e filesrc location={to} ! tee name=t ! queue \\\n    ! filesink \
                     sync=false location=/dev/stdout append=true \\\n    t. ! filesink location={to}2"
                )
            );
        }
    }

    #[test]
    fn missing_and_unknown_variables_are_named() {
        let template = Template::parse(TEXT).expect("valid");
        let objection = template.objection(&values(&[("inptu", "a")]));
        let objection = objection.expect("there is one");
        assert!(objection.contains("no variable inptu"), "{objection}");
        assert!(
            objection.contains("input is missing: a file"),
            "{objection}"
        );
        assert_eq!(template.objection(&values(&[("input", "a")])), None);
    }

    #[test]
    fn caps_take_plain_values_only() {
        let template = Template::parse(TEXT).expect("valid");
        let bad = values(&[("input", "a"), ("n", "5 ! fakesink")]);
        let error = template.fill(&bad).err().expect("refused");
        assert!(format!("{error:#}").contains("n=5 ! fakesink"), "{error:#}");
    }
}
