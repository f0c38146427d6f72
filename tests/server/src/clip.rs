//! Clips: scaled, encoded once, and kept as access units.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;

/// Seconds between two key frames, as with typical cameras.
const KEY_FRAMES: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    H265,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }

    /// The caps of access units with this codec.
    pub fn caps(self) -> String {
        format!(
            "video/x-{},stream-format=byte-stream,alignment=au",
            self.name()
        )
    }

    /// Uses no frames that depend on later ones, like cameras.
    fn encoder(self, key_interval: u32, bitrate: u32) -> String {
        let encoder = match self {
            Self::H264 => "x264enc",
            Self::H265 => "x265enc",
        };
        format!(
            "{encoder} tune=zerolatency speed-preset=veryfast key-int-max={key_interval} \
             bitrate={bitrate}"
        )
    }
}

/// The transports that a camera offers. It answers requests for others with 461.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Both,
    Tcp,
    Udp,
}

impl Transport {
    pub fn lower(self) -> gst_rtsp::RTSPLowerTrans {
        use gst_rtsp::RTSPLowerTrans;
        match self {
            Self::Both => RTSPLowerTrans::TCP | RTSPLowerTrans::UDP,
            Self::Tcp => RTSPLowerTrans::TCP,
            Self::Udp => RTSPLowerTrans::UDP,
        }
    }
}

/// What a camera sends:
/// `NAME=CLIP[,size=WxH][,rate=FPS][,codec=h264|h265][,transport=both|tcp|udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    /// The path of a file, or the name of one in the media folder.
    pub clip: String,
    pub width: u32,
    pub height: u32,
    pub rate: u32,
    pub codec: Codec,
    pub transport: Transport,
}

impl FromStr for Spec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text
            .split_once('=')
            .with_context(|| format!("`{text}`: not NAME=CLIP"))?;
        let (clip, changes) = rest.split_once(',').unwrap_or((rest, ""));
        let mut spec = Self {
            name: name.into(),
            clip: clip.into(),
            width: 640,
            height: 360,
            rate: 25,
            codec: Codec::H264,
            transport: Transport::Both,
        };
        spec.change(changes)?;
        Ok(spec)
    }
}

impl Spec {
    /// Applies `KEY=VALUE[,KEY=VALUE…]`.
    pub fn change(&mut self, changes: &str) -> Result<()> {
        for change in changes.split(',').filter(|change| !change.is_empty()) {
            let (key, value) = change
                .split_once('=')
                .with_context(|| format!("`{change}`: not KEY=VALUE"))?;
            let problem = || format!("`{change}`");
            match key {
                "clip" => self.clip = value.into(),
                "size" => {
                    let (width, height) = value.split_once('x').with_context(problem)?;
                    self.width = width.parse().with_context(problem)?;
                    self.height = height.parse().with_context(problem)?;
                    ensure!(
                        self.width.is_multiple_of(2) && self.height.is_multiple_of(2),
                        "`{change}`: sizes are even"
                    );
                }
                "rate" => {
                    self.rate = value.parse().with_context(problem)?;
                    ensure!((1..=120).contains(&self.rate), "`{change}`: 1 to 120");
                }
                "codec" => {
                    self.codec = match value {
                        "h264" => Codec::H264,
                        "h265" => Codec::H265,
                        _ => bail!("`{change}`: h264 or h265"),
                    }
                }
                "transport" => {
                    self.transport = match value {
                        "both" => Transport::Both,
                        "tcp" => Transport::Tcp,
                        "udp" => Transport::Udp,
                        _ => bail!("`{change}`: both, tcp or udp"),
                    }
                }
                _ => bail!("`{key}`: clip, size, rate, codec or transport"),
            }
        }
        Ok(())
    }
}

/// The access units of a clip.
pub struct Clip {
    pub codec: Codec,
    pub rate: u32,
    /// The first is a key frame. All others have the flag DELTA_UNIT.
    pub frames: Vec<gst::Buffer>,
}

impl Clip {
    /// Reads the encoded clip from `cache`. Encodes it there first if it is missing.
    pub fn load(spec: &Spec, media: &Path, cache: &Path) -> Result<Self> {
        let source = [PathBuf::from(&spec.clip), media.join(&spec.clip)]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| {
                format!(
                    "{}: no such file, nor one in {}; `make setup` fetches the clips",
                    spec.clip,
                    media.display()
                )
            })?;
        let file = cache.join(format!(
            "{}-{}x{}-{}.{}",
            source
                .file_name()
                .unwrap_or(source.as_os_str())
                .to_string_lossy(),
            spec.width,
            spec.height,
            spec.rate,
            spec.codec.name()
        ));
        if !file.is_file() {
            encode(spec, &source, &file).with_context(|| format!("encoding {}", spec.clip))?;
        }
        let frames = access_units(spec.codec, &file).with_context(|| file.display().to_string())?;
        Ok(Self {
            codec: spec.codec,
            rate: spec.rate,
            frames,
        })
    }
}

fn encode(spec: &Spec, source: &Path, file: &Path) -> Result<()> {
    let folder = file.parent().context("a file in a folder")?;
    fs::create_dir_all(folder)?;
    // Two processes may encode the same clip at the same time.
    let part = tempfile::Builder::new().tempfile_in(folder)?;
    let Spec {
        width,
        height,
        rate,
        codec,
        ..
    } = *spec;
    // Twelve pixels per bit: sharp, and small enough for many cameras on one machine.
    let bitrate = (width * height * rate / 12 / 1000).max(100);
    let pipeline = gst::parse::launch(&format!(
        "filesrc name=source ! decodebin ! videoconvert ! videoscale add-borders=true ! videorate ! \
         video/x-raw,format=I420,width={width},height={height},framerate={rate}/1,\
         pixel-aspect-ratio=1/1 ! {} ! {} ! filesink name=sink",
        codec.encoder(rate * KEY_FRAMES, bitrate),
        codec.caps(),
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow!("not a pipeline"))?;
    let set = |name: &str, path: &Path| -> Result<()> {
        let element = pipeline.by_name(name).context("an element is missing")?;
        element.set_property("location", path);
        Ok(())
    };
    set("source", source)?;
    set("sink", part.path())?;
    run(&pipeline)?;
    part.persist(file)?;
    Ok(())
}

fn access_units(codec: Codec, file: &Path) -> Result<Vec<gst::Buffer>> {
    let name = codec.name();
    let pipeline = gst::parse::launch(&format!(
        "filesrc name=source ! {name}parse ! {} ! appsink name=sink sync=false",
        codec.caps()
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow!("not a pipeline"))?;
    let element = |name: &str| pipeline.by_name(name).context("an element is missing");
    element("source")?.set_property("location", file);
    let sink = element("sink")?
        .downcast::<gst_app::AppSink>()
        .map_err(|_| anyhow!("not an appsink"))?;
    pipeline.set_state(gst::State::Playing)?;
    let mut frames = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().context("a sample without a buffer")?;
        // A copy of the bytes, so that the file's memory is released.
        let mut own = gst::Buffer::from_slice(buffer.map_readable()?.to_vec());
        if buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            own.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        frames.push(own);
    }
    pipeline.set_state(gst::State::Null)?;
    ensure!(
        frames
            .first()
            .is_some_and(|first| !first.flags().contains(gst::BufferFlags::DELTA_UNIT)),
        "no key frame at the beginning; remove the file so that it is encoded again"
    );
    Ok(frames)
}

/// Runs a pipeline to its end.
fn run(pipeline: &gst::Pipeline) -> Result<()> {
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let ending = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(600),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null)?;
    match ending.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => {
            bail!("{} ({})", error.error(), error.debug().unwrap_or_default())
        }
        _ => bail!("takes too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_what_is_given_and_has_defaults_for_the_rest() {
        let spec: Spec = "door=a.mp4,size=320x180,codec=h265".parse().expect("good");
        assert_eq!((spec.name.as_str(), spec.clip.as_str()), ("door", "a.mp4"));
        assert_eq!((spec.width, spec.height, spec.rate), (320, 180, 25));
        assert_eq!(spec.codec, Codec::H265);
        for bad in [
            "door",
            "d=a,size=3",
            "d=a,size=3x4",
            "d=a,rate=0",
            "d=a,codec=vp8",
            "d=a,b=c",
        ] {
            assert!(bad.parse::<Spec>().is_err(), "{bad}");
        }
    }
}
