//! Wrong words and a broken world: the thing is named, the way out is told, the exit code fits.

use crate::bench::Bench;
use std::process::{Command, Stdio};

#[test]
fn wrong_words_are_met_with_a_way_out() {
    let bench = Bench::without_bus();
    let cases: [(&str, i32, &[&str]); 9] = [
        ("plan --datsets car", 64, &["--datasets"]),
        ("plan --only techer", 64, &["use teacher, student or fusion"]),
        ("plan -d cra", 1, &["no dataset \"cra\"", "did you mean car?"]),
        ("plan --priority-datasets vna", 1, &["did you mean van?"]),
        ("plan --force=techer", 1, &["names no job of this plan", "car/teacher"]),
        ("plan --force=a//b", 1, &["write all, DATASET"]),
        ("plan --set lrr=1", 1, &["unknown key", "did you mean"]),
        ("plan --data nowhere", 1, &["nowhere does not exist", "--data FOLDER"]),
        ("apply none.json", 1, &["none.json"]),
    ];
    for (line, code, told) in cases {
        let ended = bench.coord(line).expect(code);
        for text in told {
            assert!(ended.err.contains(text), "{line}: {text:?} is not in {}", ended.err);
        }
        assert_eq!(ended.out, "", "{line}: an error is no data");
    }
    bench.coord("--help").expect(0);
    bench.coord("plan --version").expect(0);
}

#[test]
fn a_broken_dataset_is_blocked_and_the_others_are_planned() {
    let bench = Bench::without_bus();
    let empty = bench.path("data/van/train_01/a.csv");
    std::fs::remove_file(&empty).unwrap();
    let ended = bench.coord("plan -d car van").expect(1);
    assert!(ended.out.contains("+  car/teacher") && ended.out.contains("blocked: no data"), "{}", ended.out);
    assert!(ended.err.contains("error: van: no captures in"), "{}", ended.err);
}

#[test]
fn a_bus_that_is_not_there_is_exit_6() {
    let bench = Bench::without_bus();
    let ended = bench.coord("plan --nats nats://127.0.0.1:1").expect(6);
    assert!(ended.err.contains("no nats-server answers at nats://127.0.0.1:1"), "{}", ended.err);
    let ended = bench.coord("nodes").expect(6);
    assert!(ended.err.contains("--nats URL") && ended.err.contains("coord local up"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_without_jetstream_is_exit_6_with_the_way_out() {
    let bench = Bench::without_bus();
    let found = bus::server::find(None).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut server = Command::new(found.path);
    server.args(["-a", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let line = format!("plan --nats nats://127.0.0.1:{port}");
    let mut ended = bench.coord(&line);
    for _ in 0..50 {
        if ended.err.contains("JetStream") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        ended = bench.coord(&line);
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let ended = ended.expect(6);
    assert!(ended.err.contains("runs without JetStream") && ended.err.contains("-js"), "{}", ended.err);
}
