use clap::Parser;
use node_agent::args::Args;
use node_agent::start;
use std::process::ExitCode;

fn main() -> ExitCode {
    match start::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-agent: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
