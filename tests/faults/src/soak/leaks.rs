//! GStreamer's live objects, as listed by its leaks tracer.

use std::collections::BTreeMap;

/// The environment for facepipe.
pub const ENVIRONMENT: [(&str, &str); 4] = [
    ("GST_TRACERS", "leaks"),
    // SIGUSR1 lists the living objects.
    ("GST_LEAKS_TRACER_SIG", "1"),
    ("GST_DEBUG", "GST_TRACER:7"),
    ("FACEPIPE_LOG", "info,gstreamer=trace"),
];

/// The number of live objects of each type.
pub type Objects = BTreeMap<String, usize>;

/// Parses the list in a part of the log.
pub fn objects(log: &str) -> Objects {
    let mut objects = Objects::new();
    for line in log.lines().filter(|line| line.contains("object-alive")) {
        let name = line
            .split("type-name=(string)")
            .nth(1)
            .and_then(|rest| rest.split([',', ';']).next());
        if let Some(name) = name {
            *objects.entry(name.to_owned()).or_default() += 1;
        }
    }
    objects
}

/// Types with more objects than before, as `(type, before, after)`. Objects of frames in transit
/// come and go, so their numbers may differ.
pub fn more(before: &Objects, after: &Objects) -> Vec<(String, usize, usize)> {
    const PASSING: [&str; 9] = [
        "GstBuffer",
        "GstBufferList",
        "GstCaps",
        "GstEvent",
        "GstMemory",
        "GstMessage",
        "GstQuery",
        "GstSample",
        "GstTagList",
    ];
    after
        .iter()
        .filter_map(|(name, &count)| {
            let earlier = before.get(name).copied().unwrap_or(0);
            let allowed = if PASSING.contains(&name.as_str()) {
                earlier + earlier / 2 + 50
            } else {
                earlier
            };
            (count > allowed).then(|| (name.clone(), earlier, count))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_and_compared() {
        let line = |name: &str| {
            format!(
                "object-alive, type-name=(string){name}, address=(gpointer)0x1, ref-count=(uint)1;"
            )
        };
        let before = objects(&[line("GstQueue"), line("GstBuffer"), "else".into()].join("\n"));
        let after = objects(
            &[
                line("GstQueue"),
                line("GstQueue"),
                line("GstBuffer"),
                line("GstBuffer"),
            ]
            .join("\n"),
        );
        assert_eq!(more(&before, &after), [("GstQueue".to_owned(), 1, 2)]);
        assert!(more(&after, &before).is_empty());
    }
}
