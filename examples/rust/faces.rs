//! Prints the faces of a video: `faces VIDEO [GALLERY]`.

use anyhow::{Context, Result, bail};
use gst::prelude::*;

fn print(frame: u64, sample: &gst::Sample) {
    let Some(buffer) = sample.buffer() else {
        return;
    };
    for face in face_meta::read(buffer) {
        println!(
            "frame {frame} box {:.1} {:.1} {:.1} {:.1} track {} age {:.1} name {}",
            face.rect.x,
            face.rect.y,
            face.rect.w,
            face.rect.h,
            face.track.map_or(0, |track| track.id),
            face.age.unwrap_or(0.0),
            face.recognition.as_ref().map_or("-", |who| &who.name),
        );
    }
}

fn main() -> Result<()> {
    gst::init()?;
    let mut args = std::env::args().skip(1);
    let video = args.next().context("usage: faces VIDEO [GALLERY]")?;
    let pipeline = gst::parse::launch(
        "filesrc name=file ! decodebin ! videoconvert ! videoflip video-direction=auto ! facedetector \
         ! facetracker ! facerecognizer name=who ! faceagegender ! appsink name=end sync=false",
    )?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().ok();
    let pipeline = pipeline.context("several elements are a pipeline")?;
    let element = |name: &str| pipeline.by_name(name).context("named above");
    element("file")?.set_property("location", video);
    element("who")?.set_property("gallery", args.next());
    let end = element("end")?.downcast::<gst_app::AppSink>().ok();
    let mut frames = 0;
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |end| {
        print(frames, &end.pull_sample().map_err(|_| gst::FlowError::Eos)?);
        frames += 1;
        Ok(gst::FlowSuccess::Ok)
    });
    end.context("an appsink")?.set_callbacks(callbacks.build());

    // Errors arrive on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends);
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(error)) = message.as_ref().map(|m| m.view()) {
        bail!("{}\n{}", error.error(), error.debug().unwrap_or_default());
    }
    Ok(())
}
