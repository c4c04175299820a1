//! Looks at the devices, on a thread of their own: a driver in trouble may block for long.

use crate::agent::Told;
use crate::clock::Clock;
use crate::settings;
use agent_core::Event;
use common::config::Config;
use gpu::{Machine, Probe};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// One look as an event. Blocking.
pub fn look(machine: &Machine, config: &Config, clock: &Clock) -> Event {
    let taken_at = clock.now();
    match machine.sample() {
        Ok(samples) => {
            let devices = samples.into_iter().map(|sample| settings::facts(config, sample)).collect();
            Event::Devices { taken_at, devices }
        }
        Err(error) => Event::DevicesUnknown { message: error.to_string() },
    }
}

/// Starts the thread; it ends when the loop is gone.
pub fn start(
    machine: Machine,
    config: Arc<Config>,
    clock: Clock,
    told: Sender<Told>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("devices".to_owned()).spawn(move || {
        while told.blocking_send(Told::news(look(&machine, &config, &clock))).is_ok() {
            std::thread::sleep(EVERY);
        }
    })
}
