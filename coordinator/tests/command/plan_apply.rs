//! Plan and apply: what is written, when it is refused, and that repeating is harmless.

use crate::bench::{Bench, files_below};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_writes_nothing_and_says_what_would_run() {
    let bench = Bench::with_bus().await;
    let data = files_below(&bench.path("data"));
    let page = bench.coord("plan -o json").expect(0).json();
    assert_eq!(page["schema"], "coord.v1.plan");
    assert_eq!(page["to_run"].as_array().unwrap().len(), 6);
    assert_eq!(page["plan"]["jobs"][0]["decision"]["run"]["reasons"][0], "never_trained");
    assert!(page["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(bench.coord("plan -o json --detailed-exitcode").expect(2).json()["id"], page["id"]);
    assert_eq!(bench.coord("plan -o ids -d car").expect(0).out, "car/teacher\ncar/student\ncar/fusion\n");
    let table = bench.coord("plan --dataset car --only teacher").expect(0).out;
    assert!(
        table.contains("+  car/teacher  never trained") && table.contains("-  car/student  left out"),
        "{table}"
    );
    // Neither buckets nor files came of it.
    let mut here: Vec<_> =
        std::fs::read_dir(bench.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    here.sort();
    assert_eq!(here, ["data", "nats"]);
    assert_eq!(files_below(&bench.path("data")), data);
    let token = bench.server().token().to_owned();
    let options = bus::NatsOptions::new(bench.server().url(), "test").token(token);
    let bus = bus::NatsBus::connect(options).await.unwrap().shared();
    assert!(matches!(bus.kv("plans").get("x").await, Err(bus::BusError::StreamNotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_is_idempotent_and_refuses_a_plan_whose_base_moved() {
    let bench = Bench::with_bus().await;
    bench.coord("plan -d car --out car.json").expect(0);
    bench.coord("plan -d car --only teacher --out teacher.json").expect(0);
    bench.coord("plan -d van --out van.json").expect(0);

    let first = bench.coord("apply car.json -o json").expect(0).json();
    assert_eq!(
        (first["schema"].as_str(), first["outcome"].as_str()),
        (Some("coord.v1.applied"), Some("applied"))
    );
    let again = bench.coord("apply --plan-file car.json -o json").expect(0).json();
    assert_eq!((&again["outcome"], &again["plan"]), (&"already_applied".into(), &first["plan"]));
    let id = first["plan"].as_str().unwrap();
    assert_eq!(bench.coord(&format!("apply {id} -o json")).expect(0).json()["outcome"], "already_applied");

    // Another plan over the same dataset was made before: what it rests on moved.
    let stale = bench.coord("apply teacher.json").expect(4);
    assert!(stale.err.contains(&format!("car: plan {id} is retraining it")), "{}", stale.err);
    assert!(stale.err.contains("way out: plan again"), "{}", stale.err);
    let stale = bench.coord("apply teacher.json -o json").expect(4);
    let error: serde_json::Value = serde_json::from_str(&stale.err).unwrap();
    assert_eq!((error["schema"].as_str(), error["exit_code"].as_u64()), (Some("coord.v1.error"), Some(4)));

    // Other datasets are not concerned.
    assert_eq!(bench.coord("apply van.json -o json").expect(0).json()["outcome"], "applied");
    let blocked = bench.coord("plan -d car").expect(0).out;
    assert!(blocked.contains(&format!("blocked: already running in plan {id}")), "{blocked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_plan_is_refused() {
    let bench = Bench::with_bus().await;
    bench.coord("plan -d car --out car.json").expect(0);
    let path = bench.path("car.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("0.001", "0.5", 1)).unwrap();
    let ended = bench.coord("apply car.json").expect(1);
    assert!(ended.err.contains("a plan can not be edited"), "{}", ended.err);
}
