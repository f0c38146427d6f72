//! Faults of the network between camera and facepipe. The network is a real one with two
//! interfaces, and the server runs in its own network namespace. `run.sh` runs all of this in a
//! namespace, too, so it does not touch the machine's own network.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use face_rtsp_server::Server;

use crate::report::Row;
use crate::scene::{Scene, Trial, VICTIM};

const HERE: &str = "10.77.0.1";
const THERE: &str = "10.77.0.2";

/// Set by `run.sh` in its namespace.
const ISOLATED: &str = "FACE_FAULTS_ISOLATED";

pub fn obstacle() -> Option<String> {
    isolation().or_else(|| {
        let version = Command::new("iptables").arg("--version").output();
        version
            .is_err()
            .then(|| "no iptables (Debian: iptables)".into())
    })
}

/// Why namespaces cannot be used here, if so.
pub fn isolation() -> Option<String> {
    std::env::var_os(ISOLATED)
        .is_none()
        .then(|| "needs namespaces, which run.sh makes for root".into())
}

fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().context("a command")?)
        .args(words)
        .output()
        .with_context(|| line.to_owned())?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// A scene with the victim behind a network interface.
fn scene(trial: &Trial, transport: &str) -> Result<Scene> {
    let mut options = Scene::options();
    options.address = "0.0.0.0".into();
    options.wrapper = vec!["unshare".into(), "--net".into()];
    let victim = Server::start(options)?;
    let id = victim.id().context("a running server")?;
    // The interfaces of an earlier server go with its namespace, but not at once.
    let _ = run("ip link del near");
    run(&format!(
        "ip link add near type veth peer name far netns {id}"
    ))?;
    run(&format!("ip addr add {HERE}/24 dev near"))?;
    run("ip link set near up")?;
    for line in [&format!("addr add {THERE}/24 dev far"), "link set far up"] {
        run(&format!("nsenter -t {id} -n ip {line}"))?;
    }
    let url = victim.url_at(THERE, VICTIM);
    let transport = transport.to_owned();
    Scene::with_server(trial, victim, &transport, &mut |site| {
        site.cameras[0] = site.cameras[0].replace(
            &format!("rtsp://0.0.0.0:{}", url_port(&url)),
            &format!("rtsp://{THERE}:{}", url_port(&url)),
        );
        Ok(())
    })
}

fn url_port(url: &str) -> &str {
    let port = url.rsplit(':').next().unwrap_or_default();
    port.split('/').next().unwrap_or_default()
}

pub fn cut(trial: &Trial) -> Result<Row> {
    let mut scene = scene(trial, "tcp")?;
    run("ip link set near down")?;
    let away = Duration::from_secs(trial.stall) + trial.seconds(10, 2);
    sleep(away);
    let tries = scene.reconnects()?;
    run("ip link set near up")?;
    let good = scene.good_again(Instant::now(), |_| true)?;
    let happened = format!(
        "noticed after {} s, {tries} attempts to reconnect",
        trial.stall
    );
    let fault = format!("network cut for {} s", away.as_secs());
    scene.finish(fault, happened, good, "frames during the outage".into())
}

pub fn loss_udp(trial: &Trial) -> Result<Row> {
    loss(
        trial,
        "udp",
        "20 % packet loss, UDP",
        "frames that needed the lost packets",
    )
}

pub fn loss_tcp(trial: &Trial) -> Result<Row> {
    loss(
        trial,
        "tcp",
        "20 % packet loss, TCP",
        "nothing, or frames that arrived too late",
    )
}

fn loss(trial: &Trial, transport: &str, fault: &'static str, lost: &str) -> Result<Row> {
    let mut scene = scene(trial, transport)?;
    let rule = "INPUT -i near -m statistic --mode random --probability 0.2 -j DROP";
    run(&format!("iptables -A {rule}"))?;
    let time = trial.seconds(20, 5);
    let (pause, count) = scene.lines.longest_pause(time)?;
    let tries = scene.reconnects()?;
    run(&format!("iptables -D {rule}"))?;
    let good = scene.good_again(Instant::now(), |_| true)?;
    let happened = format!(
        "{:.1} of 15 frames per second arrived, longest pause {:.1} s, {tries} reconnects",
        count as f64 / time.as_secs_f64(),
        pause.as_secs_f64()
    );
    scene.finish(fault, happened, good, lost.into())
}
