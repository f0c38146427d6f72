//! Reports what happens in front of a camera.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::Shared;
use super::events::{Happening, Scene};
use super::moment::{Moment, in_millis};
use super::returning::Returning;
use super::webhook::Webhook;
use super::writer::Writer;
use crate::config::Camera;
use crate::recent::CameraTracks;
use crate::strangers::Visit;
use crate::telemetry;
use face_meta::record::Line;

/// `left-after` and `stranger-after` if the configuration has no `events`.
const COUNTED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));

/// What happened, when and where: a line in the file of events, and the body of a webhook request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    #[serde(flatten)]
    pub happening: Happening,
    #[serde(serialize_with = "in_millis")]
    pub time: Timestamp,
    pub camera: String,
    /// A UUID. Repeated deliveries of an event have the same one.
    pub id: String,
}

/// Watches the scene of a camera and passes its events on.
pub struct Reporter {
    camera: String,
    scene: Scene,
    returning: Returning,
    writer: Option<Arc<Writer>>,
    webhooks: Vec<Arc<Webhook>>,
    telemetry: Arc<telemetry::Camera>,
}

impl Reporter {
    /// Without `events` in the configuration, events are counted but not reported.
    pub fn new(
        config: &Camera,
        shared: &Shared,
        telemetry: &Arc<telemetry::Camera>,
        tracks: &Arc<CameraTracks>,
    ) -> Result<Self> {
        let events = config.events.as_ref();
        let writer = events
            .and_then(|events| Some((events.path.as_ref()?, &events.rotation)))
            .map(|(path, rotation)| shared.writers.get(path, rotation))
            .transpose()?;
        let webhooks = events
            .map_or(&[][..], |events| &events.webhooks)
            .iter()
            .map(|webhook| shared.webhooks.get(webhook))
            .collect::<Result<_>>()?;
        let (left_after, stranger_after) =
            events.map_or(COUNTED, |events| (events.left_after, events.stranger_after));
        Ok(Self {
            camera: config.name.clone(),
            scene: Scene::new(left_after, stranger_after),
            returning: Returning::new(
                &config.name,
                &config.stages.model,
                &shared.strangers,
                tracks,
            ),
            writer,
            webhooks,
            telemetry: telemetry.clone(),
        })
    }

    pub fn line(&mut self, line: &Line, moment: Moment) {
        let identified = self.returning.line(line, moment);
        for (track, who) in identified {
            self.report(Happening::StrangerIdentified { track, who }, moment);
        }
        for mut happening in self.scene.line(line, moment) {
            if let Happening::Stranger { track, who } = &mut happening {
                *who = self.returning.who(*track, moment);
            }
            self.report(happening, moment);
        }
    }

    /// Reports that a stranger has a name now, and what this camera saw of them.
    pub fn named(&self, person: &str, name: &str, visits: Vec<Visit>) {
        let happening = Happening::StrangerNamed {
            person: person.to_owned(),
            name: name.to_owned(),
            visits,
        };
        self.report(happening, Moment::now());
    }

    /// Reports nothing more about a person until they appear again.
    pub fn forget(&mut self, person: &str) {
        self.scene.forget(person);
    }

    /// The writer of its lines.
    pub fn writer(&self) -> Option<&Arc<Writer>> {
        self.writer.as_ref()
    }

    /// The camera's pipeline ended.
    pub fn lost(&mut self, moment: Moment) {
        self.returning.lost();
        if let Some(happening) = self.scene.camera_lost() {
            self.report(happening, moment);
        }
    }

    fn report(&self, happening: Happening, moment: Moment) {
        self.telemetry.events.inc();
        match &happening {
            Happening::Appeared { .. } => self.telemetry.recognitions.inc(),
            Happening::Stranger { .. } => self.telemetry.strangers.inc(),
            _ => {}
        }
        if self.writer.is_none() && self.webhooks.is_empty() {
            return;
        }
        let event = Event {
            happening,
            time: moment.time,
            camera: self.camera.clone(),
            id: uuid(rand::random()),
        };
        let mut text = match serde_json::to_vec(&event) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!("an event cannot be written: {error}");
                return self.telemetry.output_errors.inc();
            }
        };
        for webhook in &self.webhooks {
            webhook.send(&event.id, &text, &self.telemetry);
        }
        if let Some(writer) = &self.writer {
            text.push(b'\n');
            writer.send(text, &self.telemetry);
        }
    }
}

/// A random UUID (version 4) from 128 random bits.
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|range| &hex[range])
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strangers::Who;

    #[test]
    fn uuids_say_that_they_are_random() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            happening: Happening::Stranger {
                track: 7,
                who: None,
            },
            time: "2026-01-31T23:59:59.1239Z".parse().expect("a time"),
            camera: "door".into(),
            id: uuid(0),
        };
        assert_eq!(
            serde_json::to_string(&event).expect("serialises"),
            r#"{"type":"stranger","track":7,"time":"2026-01-31T23:59:59.123Z","camera":"door","id":"00000000-0000-4000-8000-000000000000"}"#
        );
        let event = Event {
            happening: Happening::Stranger {
                track: 7,
                who: Some(Who {
                    person: "stranger-12".into(),
                    seen: 3,
                    since: "2026-01-26T08:00:00.1239Z".parse().expect("a time"),
                }),
            },
            ..event
        };
        let text = serde_json::to_string(&event).expect("serialises");
        let who = r#","person":"stranger-12","seen":3,"since":"2026-01-26T08:00:00.123Z","time":"#;
        assert!(text.contains(who), "{text}");
    }
}
