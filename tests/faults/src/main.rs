//! `face-faults`: tries faults on `facepipe live` and prints the results.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use face_faults::report::{self, Verdict};
use face_faults::scene::Trial;
use face_faults::{scenarios, soak};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try faults, and print a table
    Run(Run),
    /// List the faults
    List,
    /// Run many cameras for a long time, with faults at random
    Soak(soak::Args),
}

#[derive(clap::Args)]
struct Run {
    /// Only faults that have one of these words in their names
    names: Vec<String>,

    /// Seconds without a frame after which facepipe reconnects to a camera
    #[arg(long, default_value_t = 10)]
    stall: u64,

    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Try shorter faults, as the tests do
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => try_faults(&run),
        Command::Soak(args) => soak::run(&args),
        Command::List => {
            for fault in scenarios::ALL {
                println!("{}", fault.name);
            }
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("face-faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns `true` if all faults were survived.
fn try_faults(args: &Run) -> Result<bool> {
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|n| name.contains(n));
    let faults: Vec<_> = scenarios::ALL.iter().filter(|f| wanted(f.name)).collect();
    ensure!(!faults.is_empty(), "no such fault; `list` lists them");
    let trial = Trial::new(args.stall, args.seed, args.quick)?;
    let mut verdicts = Vec::new();
    for fault in faults {
        eprintln!("{} …", fault.name);
        let verdict = fault.try_it(&trial);
        if let Verdict::Failed(name, error) = &verdict {
            eprintln!("{name}: FAILED: {error:#}");
        }
        verdicts.push(verdict);
    }
    print!("{}", report::table(&verdicts));
    Ok(!verdicts.iter().any(|v| matches!(v, Verdict::Failed(..))))
}
