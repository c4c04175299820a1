//! The program `coord`: reads its command line, everything else is in the library.

use clap::Parser;
use clap::error::ErrorKind;
use coordinator::cli::args::Cli;
use coordinator::cli::exit::Exit;
use coordinator::cli::score;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(score::set_apart(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout; a closed pipe is no reason to complain.
            let _closed_pipe = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return exit(if asked { Exit::Ok } else { Exit::Usage });
        }
    };
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(coordinator::cli::main(cli));
            // A blocking read of captures may not hold up the end.
            runtime.shutdown_background();
            exit(ended)
        }
        Err(error) => {
            eprintln!("error: the runtime can not be started: {error}");
            exit(Exit::Error)
        }
    }
}

fn exit(exit: Exit) -> ExitCode {
    ExitCode::from(exit.code())
}
