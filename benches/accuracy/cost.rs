//! What each installed model costs.

use std::time::Duration;

use anyhow::Result;
use face_core::model::{Model, Task, installed};
use face_core::session::{self, Options, Runner};

use crate::line::processor_time;
use crate::table::{Table, number};

/// Height and width for models that take frames of any size.
const FRAME: (usize, usize) = (384, 640);

/// Runs before the first that is measured, and how long is measured.
const WARM_UP: usize = 3;
const LEAST_TIME: Duration = Duration::from_millis(600);

/// The mean processor time of one inference, on one thread.
fn time(model: &Model) -> Result<Duration> {
    let decoder = gstfacedetect::decoder::create(&model.descriptor.decoder);
    let options = Options {
        edit: decoder.and_then(|decoder| decoder.edit()),
        ..Options::default()
    };
    let session = session::load(model, &options)?;
    let (height, width) = model.descriptor.fixed_size().unwrap_or(FRAME);
    let mut runner = Runner::new(&session, [1, 3, height, width])?;
    for _ in 0..WARM_UP {
        runner.run()?;
    }
    let begin = processor_time();
    for runs in 1.. {
        runner.run()?;
        let spent = processor_time() - begin;
        if spent >= LEAST_TIME {
            return Ok(spent / runs);
        }
    }
    unreachable!("the loop ends when enough time was spent")
}

/// Adds the table.
pub fn models(out: &mut String) -> Result<()> {
    let mut table = Table::new(["model", "for", "CPU ms", "MB", "licence of the weights"]);
    for model in installed() {
        let name = &model.descriptor.name;
        let milliseconds = match time(&model) {
            Ok(time) => 1e3 * time.as_secs_f64(),
            Err(error) => {
                eprintln!("accuracy: {name} does not run: {error:#}");
                f64::NAN
            }
        };
        let size = std::fs::metadata(&model.weights)?.len() as f64 / 1e6;
        let task: Task = model.descriptor.task;
        table.row([
            format!("`{name}`"),
            task.to_string(),
            number(milliseconds, 1),
            number(size, 1),
            model.descriptor.licence.clone(),
        ]);
    }
    *out += &format!(
        "Processor time of one inference on one thread: per face, or per frame of {}x{} for detectors that \
         take any size.\n\n{table}\n",
        FRAME.1, FRAME.0
    );
    Ok(())
}
