//! A bus that restarts under a command, and two admins at the same moment.

use crate::bench::Bench;
use bus::server::{NatsServer, ServerOptions};
use bus::{NatsBus, NatsOptions};
use coordinator::shell::Client;
use std::time::Duration;

async fn connect(server: &NatsServer) -> bus::SharedBus {
    let options = NatsOptions::new(server.url(), "test").token(server.token().to_owned());
    NatsBus::connect(options).await.unwrap().shared()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_rides_out_a_restart_of_the_bus_that_a_service_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = NatsServer::start(ServerOptions::new(dir.path())).await.unwrap();
    let bus = connect(&server).await;
    bus.ensure(&bus::BusLayout::default()).await.unwrap();
    let (command, service) = (Client::patient(bus.clone()), Client::new(bus.clone()));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server.pid().cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    server.wait().await;
    assert!(service.plans().await.is_err(), "no server is there");
    let (read, ()) = tokio::join!(command.base(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.restart().await.unwrap();
    });
    assert!(read.unwrap().running.is_empty());
    server.stop().await;
}

/// Both have looked, nothing was running; both write. One of them must learn that the world moved.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_applies_at_the_same_moment_over_one_dataset_one_is_refused() {
    let bench = Bench::with_bus().await;
    bench.coord("plan -d car --out all.json").expect(0);
    bench.coord("plan -d car --only teacher --out teacher.json").expect(0);
    let ends = std::thread::scope(|scope| {
        let tries = ["all.json", "teacher.json"].map(|plan| {
            let bench = &bench;
            scope.spawn(move || bench.coord(&format!("apply {plan}")))
        });
        tries.map(|handle| handle.join().unwrap())
    });
    let mut codes = ends.each_ref().map(|ended| ended.code);
    codes.sort();
    assert_eq!(codes, [0, 4], "{}\n{}", ends[0].err, ends[1].err);
    // The very one that was refused may have been the first to look: what decides is the write.
    let client = Client::new(connect(bench.server()).await);
    assert_eq!(client.plans().await.unwrap().len(), 1);
    let plan = client.plans().await.unwrap().remove(0);
    let before = client.newest_plan().await.unwrap();
    let other = common::plan::Plan { id: "p-other".parse().unwrap(), ..plan.clone() };
    let third = common::plan::Plan { id: "p-third".parse().unwrap(), ..plan };
    use coordinator::shell::client::Written;
    assert!(matches!(client.create_plan(&other, before).await.unwrap(), Written::Yes(_)));
    assert_eq!(client.create_plan(&third, before).await.unwrap(), Written::Lost);
}
