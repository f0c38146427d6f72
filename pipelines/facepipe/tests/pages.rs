//! Checks that the page of help texts matches the program's output. `make docs` writes it.

use std::fs;
use std::path::Path;

use crate::common::{assert_code, facepipe, run, stdout};

/// Set to write the page instead of comparing it.
const WRITE: &str = "FACE_DOCS_WRITE";

const HEAD: &str = "\
# All commands and options

What `facepipe COMMAND --help` prints. [facepipe](facepipe.md) and [live](live.md) explain more.
";

fn help(arguments: &[&str]) -> String {
    let output = run(facepipe()
        .args(arguments)
        .arg("--help")
        .env("COLUMNS", "100"));
    assert_code(&output, 0);
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim().to_owned()
}

/// The commands listed in a help text.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    let first = |line: &str| {
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    // Continuation lines are indented further.
    let listed = listed.filter(|line| !line.starts_with("   "));
    listed.map(first).filter(|name| name != "help").collect()
}

#[test]
fn the_help_texts_are_those_of_the_program() {
    let mut page = HEAD.to_owned();
    let mut add = |name: &str, text: &str| {
        page += &format!("\n## {name}\n\n```text\n{text}\n```\n");
    };
    let all = help(&[]);
    add("facepipe", &all);
    let names = commands(&all);
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let text = help(&[&name]);
        add(&name, &text);
        for inner in commands(&text) {
            add(&format!("{name} {inner}"), &help(&[&name, &inner]));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, page).expect("writable");
    } else {
        let old = fs::read_to_string(&path).expect("a page");
        assert_eq!(
            old, page,
            "docs/commands.md is stale: `make docs` writes it"
        );
    }
}
