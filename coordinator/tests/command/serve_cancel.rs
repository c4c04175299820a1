//! With a coordinator and no node: waiting is explained, cancelling works, and a cancelled plan can be run
//! again.

use crate::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_explained_and_a_cancelled_plan_can_be_planned_again() {
    let bench = Bench::with_bus().await;
    let _serve = bench.start("serve");
    bench.coord("plan -d car --out car.json").expect(0);
    let id = bench.coord("apply car.json -o ids").expect(0).out.trim().to_owned();
    let state = |page: &serde_json::Value, job: usize| page["plans"][0]["jobs"][job]["state"].clone();
    bench.until("status -o json", |page| state(page, 0) == "ready" && state(page, 1) == "blocked");

    let why = bench.coord("explain car/teacher").expect(0).out;
    assert!(why.contains("no node is there"), "{why}");
    let why = bench.coord("explain car/student -o json").expect(0).json();
    assert!(why["reasons"][0].to_string().contains("waits_for_parent"), "{why}");
    let unknown = bench.coord("explain car/fusion --plan nonsense").expect(1);
    assert!(unknown.err.contains(&id), "{}", unknown.err);

    let dry = bench.coord("cancel car/teacher --dry-run").expect(0).out;
    let lines: Vec<&str> = dry.lines().collect();
    assert!(
        lines[0].starts_with("would cancel car/student") && lines[2].starts_with("would cancel car/teacher")
    );
    assert_eq!(state(&bench.coord("status -o json").expect(0).json(), 0), "ready");
    let done = bench.coord("cancel car/teacher --reason tired -o json").expect(0).json();
    assert_eq!(done["cancelled"][0]["dependents"], serde_json::json!(["car/student", "car/fusion"]));
    let page = bench.coord("status -o json").expect(0).json();
    assert_eq!((state(&page, 0), state(&page, 1)), ("cancelled".into(), "skipped".into()));
    assert_eq!(
        bench.coord("cancel all").expect(0).out,
        "nothing to cancel: no job that is not over matches\n"
    );

    // The same content again is another run of it.
    let again = bench.coord("plan -d car -o json").expect(0).json();
    assert_eq!(again["id"].as_str().unwrap(), format!("{id}-2"));
    bench.coord("plan -d car --out again.json").expect(0);
    assert_eq!(bench.coord("apply again.json -o json").expect(0).json()["outcome"], "applied");
    bench.until("status -o json", |page| state(page, 0) == "ready");
    assert_eq!(
        bench.coord(&format!("cancel {id}-2 -o json")).expect(0).json()["cancelled"][0]["plan"],
        format!("{id}-2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_nobody_takes_up_is_told_as_such() {
    let bench = Bench::with_bus().await;
    bench.coord("plan -d car --out car.json").expect(0);
    bench.coord("apply car.json").expect(0);
    let status = bench.coord("status").expect(0).out;
    assert!(status.contains("no coordinator has taken up the plan yet"), "{status}");
    assert!(bench.coord("explain car/teacher").expect(0).out.contains("no coordinator"));
    // It can be taken back all the same: the coordinator that comes later finds it cancelled.
    let dry = bench.coord("cancel car/student --dry-run -o json").expect(0).json();
    assert_eq!(dry["cancelled"][0]["dependents"], serde_json::json!(["car/fusion"]));
    let done = bench.coord("cancel car/teacher --reason oops -o json").expect(0).json();
    assert_eq!(done["cancelled"][0]["jobs"], serde_json::json!(["car/teacher"]));
    let state = |page: &serde_json::Value, job: usize| page["plans"][0]["jobs"][job]["state"].clone();
    let _serve = bench.start("serve");
    let page = bench.until("status -o json", |page| state(page, 0) == "cancelled");
    assert_eq!((state(&page, 1), state(&page, 2)), ("skipped".into(), "skipped".into()));
    let told = bench.coord("events").expect(0).out;
    assert!(told.contains("car/teacher - cancelled - oops"), "{told}");
}
