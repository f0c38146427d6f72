//! Checks that the property tables on the pages match the elements. `make docs` writes them.

use std::fs;

use face_tests::{init, root};
use gst::glib::{self, ParamSpec};
use gst::prelude::*;

const ELEMENTS: [&str; 9] = [
    "facedetector",
    "facetracker",
    "facerecognizer",
    "faceagegender",
    "faceexpression",
    "facemetajson",
    "facemetaoverlay",
    "facemetablur",
    "facepicturedecoder",
];

const BEGIN: &str = "<!-- properties -->\n";
const END: &str = "<!-- /properties -->";

/// If set, the pages are written, not compared.
const WRITE: &str = "FACE_DOCS_WRITE";

/// The values of a property, and its default.
fn values(spec: &ParamSpec) -> (String, String) {
    let range = |least: String, most: String| format!("{least} to {most}");
    macro_rules! numbers {
        ($($kind:ty),*) => {
            $(if let Some(spec) = spec.downcast_ref::<$kind>() {
                let most = match spec.maximum() as f64 {
                    most if most >= f64::from(u32::MAX) => "…".to_owned(),
                    _ => spec.maximum().to_string(),
                };
                return (range(spec.minimum().to_string(), most), spec.default_value().to_string());
            })*
        };
    }
    numbers!(
        glib::ParamSpecUInt,
        glib::ParamSpecUInt64,
        glib::ParamSpecInt,
        glib::ParamSpecDouble
    );
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecBoolean>() {
        return ("true, false".into(), spec.default_value().to_string());
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecEnum>() {
        let nick = |value: &glib::EnumValue| format!("`{}`", value.nick());
        let class = spec.enum_class();
        let all: Vec<String> = class.values().iter().map(nick).collect();
        let default = class.value(spec.default_value_as_i32());
        return (all.join(", "), default.map(nick).unwrap_or_default());
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecString>() {
        let default = spec.default_value().filter(|text| !text.is_empty());
        let default = default.map(|text| format!("`{text}`"));
        return ("text".into(), default.unwrap_or_else(|| "none".into()));
    }
    ("structure".into(), String::new())
}

fn table(element: &str) -> String {
    let factory = gst::ElementFactory::find(element).expect("registered");
    let element = factory.create().build().expect("creatable");
    let own = |spec: &&ParamSpec| spec.owner_type() == element.type_();
    let mut text =
        "| property | takes | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for spec in element.list_properties().iter().filter(own) {
        let flags = spec.flags();
        let fixed = !flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING);
        let (takes, default) = match flags.contains(glib::ParamFlags::WRITABLE) {
            true => values(spec),
            false => ("read-only".into(), String::new()),
        };
        let mark = match fixed && flags.contains(glib::ParamFlags::WRITABLE) {
            true => "°",
            false => "",
        };
        let blurb = spec.blurb().unwrap_or_default();
        text += &format!(
            "| `{}`{mark} | {takes} | {default} | {blurb} |\n",
            spec.name()
        );
    }
    text
}

#[test]
fn the_tables_of_properties_are_those_of_the_elements() {
    init();
    for element in ELEMENTS {
        let path = root().join(format!("docs/{element}.md"));
        let page = fs::read_to_string(&path).expect("a page");
        let (before, rest) = page.split_once(BEGIN).expect("a table begins");
        let (old, after) = rest.split_once(END).expect("a table ends");
        let new = table(element);
        if std::env::var_os(WRITE).is_some() {
            fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}")).expect("writable");
        } else {
            assert_eq!(
                old, new,
                "docs/{element}.md is stale: `make docs` writes it"
            );
        }
    }
}
