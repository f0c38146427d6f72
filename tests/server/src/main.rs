//! `face-rtsp-server`: cameras that can be made to fail.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use face_rtsp_server::clip::Spec;
use face_rtsp_server::commands;
use face_rtsp_server::serve::{Serving, Settings};

/// Serve clips as RTSP cameras, in a loop.
///
/// The first line of output is `listening ADDRESS:PORT`; a camera is at rtsp://ADDRESS:PORT/NAME.
#[derive(Parser)]
#[command(after_help = commands::HELP)]
struct Args {
    /// NAME=CLIP[,size=640x360][,rate=25][,codec=h264|h265][,transport=both|tcp|udp]
    #[arg(required = true)]
    cameras: Vec<Spec>,

    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,

    /// Port to listen on; 0 is a free one
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// Ask for this name and password (digest)
    #[arg(long, requires = "password")]
    username: Option<String>,

    #[arg(long, requires = "username")]
    password: Option<String>,

    /// Exit at the end of standard input, so that no server outlives its test
    #[arg(long)]
    until_eof: bool,

    /// Folder of the clips
    #[arg(long, default_value_os_t = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../media"))]
    media: PathBuf,

    /// Folder for encoded clips; by default `clips` next to the program
    #[arg(long)]
    cache: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("face-rtsp-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    gst::init()?;
    let cache = match args.cache {
        Some(cache) => cache,
        None => std::env::current_exe()?.with_file_name("clips"),
    };
    let settings = Settings {
        address: args.address.clone(),
        port: args.port,
        credentials: args.username.zip(args.password),
        media: args.media,
        cache,
    };
    let serving = Arc::new(Serving::start(settings, args.cameras)?);
    println!("listening {}:{}", args.address, serving.port());
    let main_loop = glib::MainLoop::new(None, false);
    let (quit, until_eof) = (main_loop.clone(), args.until_eof);
    std::thread::Builder::new()
        .name("commands".into())
        .spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                match commands::run(&serving, &line) {
                    Ok(answer) => println!("{}", format!("ok {answer}").trim_end()),
                    Err(error) => println!("error: {error:#}"),
                }
            }
            if until_eof {
                quit.quit();
            }
        })?;
    main_loop.run();
    Ok(())
}
