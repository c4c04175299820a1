//! Runs a private nats-server in the folder given, tells its URL and process number, and stops it when the
//! standard input ends.

use bus::server::{NatsServer, ServerError, ServerOptions};
use std::io::Read;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ServerError> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "nats-data".to_owned());
    let server = NatsServer::start(ServerOptions::new(dir)).await?;
    println!("{} {}", server.url(), server.pid());
    let until = async {
        let read = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        if let Ok(Err(error)) = read.await {
            eprintln!("standard input: {error}");
        }
    };
    server.supervise(until, 3).await
}
