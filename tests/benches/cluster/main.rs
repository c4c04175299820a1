//! A cluster of real processes measured: the bus, `coord serve`, agents with scripted GPUs, fake trainers.
//!
//! `cargo bench -p harness --bench cluster [-- dispatch | rest]`, after
//! `cargo build --release -p coordinator -p node-agent -p harness --bins` (`make bench` does both). Sizes:
//! `COORD_BENCH_JOBS` (120), `COORD_BENCH_ROUNDS` (30), `COORD_BENCH_AGENTS` (1000), `COORD_BENCH_REST_S` (60).
//!
//! | module | holds |
//! |--|--|
//! | `site` | the processes |
//! | `raw` | what the bus alone takes for the same writes |
//! | `dispatch` | from apply to lease and to the start of the trainer |
//! | `rest` | the coordinator beside many agents that have nothing to do |
//! | `figures` | quantiles, and what a process has used |

mod dispatch;
mod figures;
mod raw;
mod rest;
mod site;

fn main() {
    // `cargo bench` adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|arg| arg == name);
    if wants("dispatch") {
        dispatch::run();
    }
    if wants("rest") {
        rest::run();
    }
}

/// A size from the environment.
fn size(name: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}
