//! What the element does with one frame: embeds faces that are due, and names all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use face_core::Error;
use face_core::image::ReadFrame;
use face_core::rounds::Stage;
use face_core::session::Place;
use face_core::stats::Work;
use face_gallery::Gallery;
use face_gallery::evidence::Evidence;
use face_gallery::rivals::{Claim, assign, collide};
use face_gallery::vote::{Rule, Verdict, who, who_else};
use face_meta::{Embedding, Face, Recognition};

use super::imp::Settings;
use crate::recognizer::Recognizer;

/// The rule by which faces get names.
pub(super) fn rule(settings: &Settings, recognizer: &Recognizer) -> Rule {
    Rule {
        false_name_rate: settings.false_name_rate,
        distance_threshold: settings.distance_threshold,
        ..Rule::of(recognizer.descriptor())
    }
}

/// The model, and the frame that it processes.
pub(super) struct Look<'a> {
    pub recognizer: &'a mut Recognizer,
    pub gallery: Option<&'a Gallery>,
    pub settings: &'a Settings,
}

impl Stage for Look<'_> {
    type Summary = Evidence;

    fn settled(track: &Evidence) -> u32 {
        track.settled()
    }

    fn place(&self, patience: Option<Duration>) -> Option<Place> {
        self.recognizer.place(patience)
    }

    /// Embeds the face, adds the embedding to the summary, and decides who the track is.
    fn look(
        &mut self,
        frame: &ReadFrame,
        face: &mut Face,
        track: &mut Evidence,
        work: &mut Work,
    ) -> Result<(), Error> {
        let (least, mirror) = (self.settings.min_quality, self.settings.mirror);
        let found = self.recognizer.embed(frame, face, least, mirror, work)?;
        let Some(found) = found else {
            return Ok(());
        };
        if self.settings.attach_embedding {
            face.embedding = Some(Embedding {
                model: self.recognizer.model_id().name,
                values: found.embedding.to_vec(),
                weight: Some(found.weight),
            });
        }
        track.add(&found);
        let rule = self.rule();
        let verdict = self
            .gallery
            .zip(track.embedding(self.settings.vote))
            .map(|(gallery, embedding)| who(gallery, embedding, &rule));
        track.judge(verdict);
        Ok(())
    }

    /// Names a further face of a track that was named.
    fn tell(&self, track: &Evidence, face: &mut Face) {
        if let Some(mut verdict) = track.verdict().cloned() {
            if !track.is_new() {
                verdict.person = track.told().map(Into::into);
            }
            self.name(face, verdict);
        }
    }

    /// Names the faces, each person only once.
    fn tell_all(&self, faces: &mut [(Evidence, &mut Face)]) {
        let (mut claims, mut known) = (Vec::with_capacity(faces.len()), Vec::new());
        for (i, (track, face)) in faces.iter().enumerate() {
            if let Some(verdict) = track.verdict().cloned() {
                claims.push(claim(verdict, track, face));
                known.push(i);
            }
        }
        let verdicts = match self.gallery {
            Some(gallery) if !self.settings.repeated_names && collide(&claims) => {
                let rule = self.rule();
                let next = |index: usize, others: &BTreeSet<String>| {
                    let (track, face) = &mut faces[known[index]];
                    let verdict = track.otherwise(others, self.settings.vote, |embedding| {
                        who_else(gallery, embedding, &rule, others)
                    });
                    claim(verdict.unwrap_or_else(Verdict::nobody), track, face)
                };
                assign(claims, |_, _| true, next)
            }
            _ => claims.into_iter().map(|claim| claim.verdict).collect(),
        };
        for (i, verdict) in known.into_iter().zip(verdicts) {
            let (track, face) = &mut faces[i];
            track.tell(verdict.person.as_deref());
            self.name(face, verdict);
        }
    }
}

/// What a face on a track claims to be.
fn claim(verdict: Verdict, track: &Evidence, face: &Face) -> Claim {
    Claim {
        held: verdict.person.is_some() && track.told() == verdict.person.as_deref(),
        is_new: track.is_new(),
        predicted: face.is_predicted(),
        verdict,
    }
}

impl Look<'_> {
    fn rule(&self) -> Rule {
        rule(self.settings, self.recognizer)
    }

    fn name(&self, face: &mut Face, verdict: Verdict) {
        let unknown = || self.settings.unknown_label.clone();
        face.recognition = Some(Recognition {
            name: verdict.person.unwrap_or_else(unknown),
            confidence: verdict.confidence,
            distance: verdict.distance,
        });
    }
}
