//! A bus that has lost everything is filled again from the store, by hand.

use crate::bench::Bench;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_chains_come_back_from_the_store_and_nothing_is_replaced() {
    let lost = Bench::with_bus().await;
    let _serve = lost.start("serve");
    lost.coord("plan -d car --out car.json").expect(0);
    let id = lost.coord("apply car.json -o ids").expect(0).out.trim().to_owned();
    lost.until("status -o json", |page| page["plans"][0]["jobs"][0]["state"] == "ready");

    let fresh = Bench::with_bus().await;
    let line = |verb: &str| format!("{verb} --store {} -o json", lost.path("store").display());
    let dry = fresh.coord(&line("rebuild --dry-run")).expect(0).json();
    assert_eq!((&dry["found"]["plans"], &dry["written"]), (&json!(1), &json!(null)));
    assert_eq!(dry["chains_that_go_on"], json!([format!("{id}:car")]));
    assert_eq!(fresh.coord("status all -o json").expect(0).json()["plans"], json!([]), "nothing was written");

    let done = fresh.coord(&line("rebuild")).expect(0).json();
    assert_eq!(done["written"]["chains"], json!({"written": 1, "already_there": 0}));
    let page = fresh.coord("status -o json").expect(0).json();
    assert_eq!(page["plans"][0]["jobs"][0]["state"], "ready");
    let again = fresh.coord(&line("rebuild")).expect(0).json();
    assert_eq!(again["written"]["plans"], json!({"written": 0, "already_there": 1}));
    let text =
        fresh.coord(&format!("rebuild --dry-run --store {}", lost.path("store").display())).expect(0).out;
    assert!(text.contains("coord cancel"), "{text}");

    // What was cancelled stays so.
    lost.coord(&format!("cancel {id}")).expect(0);
    let other = Bench::with_bus().await;
    other.coord(&line("rebuild")).expect(0);
    assert_eq!(other.coord("status -o json").expect(0).json()["plans"][0]["jobs"][0]["state"], "cancelled");
}
