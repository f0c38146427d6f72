//! GStreamer's objects, as its leaks tracer lists them.

use std::collections::BTreeMap;

/// Set for facepipe.
pub const ENVIRONMENT: [(&str, &str); 4] = [
    ("GST_TRACERS", "leaks"),
    // SIGUSR1 lists the living objects.
    ("GST_LEAKS_TRACER_SIG", "1"),
    ("GST_DEBUG", "GST_TRACER:7"),
    ("FACEPIPE_LOG", "info,gstreamer=trace"),
];

/// Numbers of living objects by type.
pub type Objects = BTreeMap<String, usize>;

/// Reads the list in a part of the log.
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

/// Types of which there are more than before, in `(type, before, after)`: objects that come and go with
/// the frames may differ by what is on the way.
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
