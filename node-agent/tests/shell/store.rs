//! A store that refuses writes: told, given up in time, and nothing is lost. And captures that are not those planned.

use crate::world::{CAPTURE, World, offer};
use common::digest::Digest;
use common::messages::{JobOffer, WaitsFor};
use common::registry::attempt_prefix;
use common::slot::Cause;
use serde_json::json;
use std::fs;
use std::process::Command;

/// How writes are refused.
#[derive(Clone, Copy)]
enum Refusal {
    /// Another thing stands where the folder was: refused to everybody, root too.
    Replaced,
    /// The folder's file system is mounted read-only.
    ReadOnly,
    /// The folder's file system has no block left.
    Full,
}

impl Refusal {
    /// Prepares the store's folder; `false` where this machine does not let us mount.
    fn prepare(self, world: &World) -> bool {
        fs::create_dir_all(world.path("store")).unwrap();
        matches!(self, Refusal::Replaced) || mount(world, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
    }

    fn begin(self, world: &World) {
        let store = world.path("store");
        match self {
            Refusal::Replaced => {
                fs::rename(&store, world.path("away")).unwrap();
                fs::write(&store, "in the way").unwrap();
            }
            Refusal::ReadOnly => assert!(mount(world, &["-o", "remount,ro"])),
            // Until not a byte more fits.
            Refusal::Full => {
                let filled = fs::write(store.join("filler"), vec![0; 2 << 20]);
                assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
            }
        }
    }

    fn end(self, world: &World) {
        let store = world.path("store");
        match self {
            Refusal::Replaced => {
                fs::remove_file(&store).unwrap();
                fs::rename(world.path("away"), &store).unwrap();
            }
            Refusal::ReadOnly => assert!(mount(world, &["-o", "remount,rw"])),
            Refusal::Full => fs::remove_file(store.join("filler")).unwrap(),
        }
    }

    fn tidy(self, world: &World) {
        if !matches!(self, Refusal::Replaced) {
            let gone = Command::new("umount").arg("-l").arg(world.path("store")).status().unwrap();
            assert!(gone.success());
        }
    }

    /// What a person has to read.
    fn told(self) -> &'static str {
        match self {
            Refusal::Replaced => "folder",
            Refusal::ReadOnly => "the store refuses access",
            Refusal::Full => "no space left",
        }
    }
}

fn mount(world: &World, args: &[&str]) -> bool {
    let status = Command::new("mount").args(args).arg(world.path("store")).output();
    status.is_ok_and(|output| output.status.success())
}

/// Long enough for the store to be spoilt in the middle.
fn slow(world: &World, name: &str, attempt: u32) -> JobOffer {
    offer(world, name, attempt, json!({ "epochs": 8, "epoch_ms": 150 }))
}

async fn gives_up_and_goes_on(refusal: Refusal) -> bool {
    let mut world = World::without_agent().await;
    if !refusal.prepare(&world) {
        return false;
    }
    let mut command = world.command();
    command.args(["--set", "agent.store_refused_s=4"]);
    world.start_command(command);
    let job = slow(&world, "job", 1);
    world.offer(&job).await;
    world.training(&job).await;
    refusal.begin(&world);

    let upload = |w: &common::messages::Waits| w.what == WaitsFor::Upload;
    let beat =
        world.beat("the upload's trouble", |b| b.running.iter().flat_map(|r| &r.waits).any(upload)).await;
    let waits = beat.running[0].waits.clone().unwrap();
    assert!(waits.tries > 0 && waits.left_ms.is_some(), "{waits:?}");
    let failure = world.until_failed(&job).await;
    assert_eq!(failure.cause, Cause::Store);
    let store = world.path("store").display().to_string();
    for told in [refusal.told(), &store, "for 4 s", "kept on this node", "run again"] {
        assert!(failure.message.contains(told), "no {told:?} in {}", failure.message);
    }

    refusal.end(&world);
    // Also over a restart of the agent.
    world.stop_agent();
    world.start_agent();
    let again = slow(&world, "job", 2);
    world.offer(&again).await;
    let manifest = world.until_finished(&again).await;
    assert_eq!(world.log().matches("trainer started").count(), 1, "trained once:\n{}", world.log());
    let whole = slow(&world, "whole", 1);
    world.offer(&whole).await;
    assert_eq!(world.until_finished(&whole).await.files, manifest.files);
    assert!(fs::read_dir(world.path("work/kept")).unwrap().next().is_none(), "nothing is kept any more");
    world.stop_agent();
    refusal.tidy(&world);
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_no_folder_any_more_is_given_up_and_the_result_kept() {
    assert!(gives_up_and_goes_on(Refusal::Replaced).await);
}

/// Where nothing may be mounted the same is shown by the test above and by the natures of problems.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_store_and_a_full_one_are_given_up_and_the_result_kept() {
    for refusal in [Refusal::ReadOnly, Refusal::Full] {
        if !gives_up_and_goes_on(refusal).await {
            eprintln!("this machine does not let us mount");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_mended_in_time_costs_nothing() {
    let world = World::start().await;
    let job = slow(&world, "job", 1);
    world.offer(&job).await;
    world.training(&job).await;
    Refusal::Replaced.begin(&world);
    world.beat("trouble", |b| b.running.iter().any(|r| r.waits.as_ref().is_some_and(|w| w.tries > 1))).await;
    Refusal::Replaced.end(&world);
    assert_eq!(world.until_finished(&job).await.attempt.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_uploads_does_not_train_again() {
    let mut world = World::start().await;
    let job = slow(&world, "job", 1);
    world.offer(&job).await;
    world.training(&job).await;
    Refusal::Replaced.begin(&world);
    let uploads = |w: &common::messages::Waits| w.what == WaitsFor::Upload;
    world.beat("the upload", |b| b.running.iter().flat_map(|r| &r.waits).any(uploads)).await;
    world.stop_agent();
    Refusal::Replaced.end(&world);
    world.start_agent();
    world.until_failed(&job).await;
    let again = slow(&world, "job", 2);
    world.offer(&again).await;
    let manifest = world.until_finished(&again).await;
    assert_eq!(world.log().matches("trainer started").count(), 1, "{}", world.log());
    let prefix = attempt_prefix(&again.key, again.attempt);
    assert!(
        manifest.made.started.0 > 0
            && world.store.head(&format!("{prefix}/manifest.json")).await.unwrap().is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_that_are_not_those_planned_are_refused_with_both_digests() {
    let world = World::start().await;
    let job = offer(&world, "job", 1, json!({}));
    let planned = job.spec.inputs.dataset_digest;
    fs::write(world.path("data/d/train_01/a.csv"), CAPTURE.replace("1.1", "1.3")).unwrap();
    world.offer(&job).await;
    let failure = world.until_failed(&job).await;
    assert_eq!(failure.cause, Cause::UserError);
    let found: Digest = offer(&world, "job", 1, json!({})).spec.inputs.dataset_digest;
    let folder = world.path("data/d").display().to_string();
    for told in [folder, planned.to_string(), found.to_string(), "coord plan".to_owned()] {
        assert!(failure.message.contains(&told), "{}", failure.message);
    }
    assert!(!world.log().contains("trainer started"));
}
