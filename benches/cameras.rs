//! More cameras than the machine can process: `facepipe live` on 50 and on 100 RTSP cameras of
//! 640x360 at 25 frames per second, served on the same machine, compared with a single camera. The
//! first argument is how many seconds each number is watched (12); the others are the numbers of
//! cameras.

use std::time::Duration;

use face_faults::load::{Cameras, Stretch};

const RATE: u32 = 25;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let seconds = Duration::from_secs(numbers.first().copied().unwrap_or(12));
    let counts = match numbers.get(1..) {
        Some(counts @ [_, ..]) => counts.iter().map(|&n| n as usize).collect(),
        _ => vec![1, 20, 50, 100],
    };
    println!(
        "facepipe live, cameras of 640x360 at {RATE} frames a second, all stages but a gallery"
    );
    println!(
        "{:>7} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10} {:>8} {:>8} {:>6} {:>6} {:>7}",
        "cameras",
        "decoded/s",
        "dropped/s",
        "looked/s",
        "each, of mean",
        "latency ms",
        "most",
        "start ms",
        "cores",
        "server",
        "MiB",
        "end s"
    );
    let mut alone = None;
    for count in counts {
        let cameras = Cameras::start(count, RATE, "").expect("they run");
        let start = cameras.watch(Duration::from_secs(6)).expect("it answers");
        let before = server_time(&cameras);
        let stretch = cameras.watch(seconds).expect("it answers");
        let server = (server_time(&cameras) - before) / stretch.seconds;
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let a_second = |values: &[f64]| sum(values) / stretch.seconds;
        let looked = a_second(&stretch.looked);
        let (least, most) = Stretch::spread(&stretch.looked);
        let ms = |latency: f64| 1e3 * latency;
        let (end, in_order) = cameras.end().expect("all is whole");
        println!(
            "{count:>7} {:>9.0} {:>9.1} {looked:>9.1} {:>12} {:>10.0} {:>10.0} {:>8.0} {:>8.2} {server:>6.2} {:>6.0} {:>7.2}",
            a_second(&stretch.came),
            stretch.dropped / stretch.seconds,
            format!("{least:.2}-{most:.2}"),
            ms(sum(&stretch.latency) / count as f64),
            ms(stretch.latency.iter().copied().fold(0.0, f64::max)),
            ms(sum(&start.latency) / count as f64),
            stretch.cpu / stretch.seconds,
            stretch.memory / f64::from(1 << 20),
            end.as_secs_f64()
        );
        if !in_order {
            println!("        the end took too long, and was cut short");
        }
        let one = *alone.get_or_insert(looked);
        println!(
            "        looked at: {:.2} times what the first of these did",
            looked / one
        );
    }
}

/// Processor time of the server so far, in seconds.
fn server_time(cameras: &Cameras) -> f64 {
    let stat = cameras
        .server()
        .and_then(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).ok())
        .unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    // The kernel reports hundredths of a second to programs.
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}
