//! The commands that the server reads from its standard input, one per line.

use anyhow::{Context, Result, bail, ensure};

use crate::serve::Serving;

pub const HELP: &str = "\
Commands on standard input, one per line; the answer to each is a line `ok …` or `error: …`:
  set CAMERA KEY=VALUE[,…]    change clip, size, rate, codec or transport
  jump CAMERA SECONDS         make timestamps jump (may be negative)
  garbage CAMERA on|off       send random bytes as payload
  loss CAMERA SHARE           lose this share of the packets (0.2: one in five)
  stall CAMERA on|off         send nothing, but keep connections open
  disconnect [CAMERA]         disconnect its viewers, or all
  clients                     print the number of connections
  sent CAMERA                 print the number of frames sent";

/// Carries out `line`, and returns the answer.
pub fn run(serving: &Serving, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match *words.as_slice() {
        ["set", camera, changes] => serving.change(camera, changes)?,
        ["jump", camera, seconds] => {
            let seconds: f64 = seconds.parse().context("seconds")?;
            ensure!(seconds.is_finite(), "seconds: not a number");
            serving
                .camera(camera)?
                .change_faults(|faults| faults.shift += seconds);
        }
        ["garbage", camera, switch] => {
            let on = is_on(switch)?;
            serving
                .camera(camera)?
                .change_faults(|faults| faults.garbage = on);
        }
        ["loss", camera, share] => {
            let share: f64 = share.parse().context("share")?;
            ensure!((0.0..=1.0).contains(&share), "share: from 0 to 1");
            serving
                .camera(camera)?
                .change_faults(|faults| faults.loss = share);
        }
        ["stall", camera, switch] => serving.camera(camera)?.stall(is_on(switch)?),
        ["disconnect"] => return Ok(serving.disconnect(None)?.to_string()),
        ["disconnect", camera] => {
            serving.camera(camera)?;
            return Ok(serving.disconnect(Some(camera))?.to_string());
        }
        ["clients"] => return Ok(serving.clients().to_string()),
        ["sent", camera] => return Ok(serving.camera(camera)?.sent().to_string()),
        _ => bail!("`{line}`: no such command"),
    }
    Ok(String::new())
}

fn is_on(switch: &str) -> Result<bool> {
    match switch {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => bail!("`{switch}`: on or off"),
    }
}
