use super::*;
use common::digest::Digest;
use common::ids::Attempt;
use common::job_key::JobKey;
use proptest::prelude::*;

fn run(n: u8) -> RunId {
    RunId { key: JobKey(Digest::of(&[n])), attempt: Attempt::FIRST }
}

fn gpu_id() -> DeviceId {
    DeviceId::new("GPU-a").unwrap()
}

fn gpu(total: u64, used: Option<u64>, processes: &[(u32, Option<u64>)]) -> DeviceFacts {
    let processes = processes.iter().map(|(pid, mib)| ProcessUse { pid: *pid, used_mib: mib.map(Mib) });
    DeviceFacts {
        id: gpu_id(),
        kind: DeviceKind::Gpu,
        model: "Test".into(),
        total_mib: Mib(total),
        used_mib: used.map(Mib),
        processes: Some(processes.collect()),
        utilization_percent: None,
        fault: None,
        cap_permille: 900,
        max_jobs: 4,
    }
}

fn with(facts: DeviceFacts) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.observe(Millis(0), vec![facts]);
    ledger
}

#[test]
fn free_is_budget_less_reserved_less_foreign() {
    let mut ledger = with(gpu(10_000, Some(2_000), &[(42, Some(2_000))]));
    assert_eq!(ledger.device(&gpu_id()).unwrap().free_mib(), Some(Mib(7_000)));
    ledger.reserve(run(1), &gpu_id(), Mib(4_000)).unwrap();
    let refused = ledger.reserve(run(2), &gpu_id(), Mib(3_001)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "GPU-a: 3001 MiB asked, 3000 MiB free of 9000 MiB (reserved 4000 MiB, other processes 2000 MiB, pid 42)"
    );
    ledger.reserve(run(2), &gpu_id(), Mib(3_000)).unwrap();
}

#[test]
fn unknown_use_is_not_zero_use() {
    let mut ledger = with(gpu(10_000, None, &[]));
    let refused = ledger.reserve(run(1), &gpu_id(), Mib(1)).unwrap_err();
    assert!(matches!(refused, NoRoom::ForeignUnknown { .. }));
    assert_eq!(ledger.device(&gpu_id()).unwrap().report().foreign_mib, None);
}

#[test]
fn our_own_child_is_not_foreign_whether_listed_or_not() {
    let mut ledger = with(gpu(10_000, Some(0), &[]));
    ledger.reserve(run(1), &gpu_id(), Mib(4_000)).unwrap();
    ledger.child_started(&run(1), 7);
    ledger.observe(Millis(1), vec![gpu(10_000, Some(3_500), &[(7, Some(3_000)), (9, Some(500))])]);
    let device = ledger.device(&gpu_id()).unwrap();
    assert_eq!(device.foreign_mib(), Some(Mib(500)));
    assert_eq!(device.report().foreign, [ForeignUse { pid: 9, used_mib: Some(Mib(500)) }]);
    ledger.observe(Millis(2), vec![gpu(10_000, Some(4_500), &[])]);
    assert_eq!(ledger.device(&gpu_id()).unwrap().foreign_mib(), Some(Mib(500)));
}

#[test]
fn a_card_is_free_when_a_later_look_shows_no_such_process() {
    let mut ledger = with(gpu(10_000, Some(0), &[]));
    ledger.reserve(run(1), &gpu_id(), Mib(9_000)).unwrap();
    ledger.child_started(&run(1), 7);
    ledger.child_reaped(&run(1), Millis(100));
    ledger.release(&run(1));
    assert!(ledger.has(&run(1)), "reaped is not enough on a card");
    ledger.observe(Millis(99), vec![gpu(10_000, Some(0), &[])]);
    assert!(ledger.has(&run(1)), "that look began before the child was reaped");
    ledger.observe(Millis(101), vec![gpu(10_000, Some(9_000), &[(7, Some(9_000))])]);
    assert!(ledger.has(&run(1)), "the driver still shows it");
    ledger.observe(Millis(102), vec![gpu(10_000, Some(0), &[])]);
    assert!(!ledger.has(&run(1)));
}

#[test]
fn a_card_that_does_not_tell_its_processes_is_free_a_minute_later() {
    let mut ledger = with(gpu(10_000, Some(0), &[]));
    let untold = || DeviceFacts { processes: None, ..gpu(10_000, Some(0), &[]) };
    ledger.reserve(run(1), &gpu_id(), Mib(9_000)).unwrap();
    ledger.child_started(&run(1), 7);
    ledger.child_reaped(&run(1), Millis(100));
    ledger.observe(Millis::from_secs(59), vec![untold()]);
    assert!(ledger.has(&run(1)), "not told is not gone");
    ledger.observe(Millis::from_secs(61), vec![untold()]);
    assert!(!ledger.has(&run(1)));
}

#[test]
fn main_memory_is_free_with_the_reaping() {
    let mut ledger =
        with(DeviceFacts { kind: DeviceKind::Cpu, processes: None, ..gpu(10_000, Some(0), &[]) });
    ledger.reserve(run(1), &gpu_id(), Mib(9_000)).unwrap();
    ledger.child_started(&run(1), 7);
    ledger.child_reaped(&run(1), Millis(100));
    assert!(!ledger.has(&run(1)));
}

#[test]
fn a_faulty_or_vanished_card_takes_nothing() {
    let fault = Some("GPU is lost".to_owned());
    let mut ledger = with(DeviceFacts { fault, ..gpu(10_000, Some(0), &[]) });
    assert!(matches!(ledger.reserve(run(1), &gpu_id(), Mib(1)), Err(NoRoom::Fault { .. })));
    ledger.observe(Millis(1), vec![gpu(10_000, Some(0), &[])]);
    ledger.reserve(run(1), &gpu_id(), Mib(1)).unwrap();
    ledger.observe(Millis(2), vec![]);
    assert!(matches!(ledger.reserve(run(2), &gpu_id(), Mib(1)), Err(NoRoom::Fault { .. })));
    ledger.release(&run(1));
    ledger.observe(Millis(3), vec![]);
    assert!(matches!(ledger.reserve(run(2), &gpu_id(), Mib(1)), Err(NoRoom::NoSuchDevice(_))));
    ledger.observe(Millis(4), vec![gpu(10_000, Some(0), &[])]);
    ledger.observe_failure("NVML: unknown error");
    assert!(matches!(ledger.reserve(run(2), &gpu_id(), Mib(1)), Err(NoRoom::Fault { .. })));
}

#[test]
fn a_card_that_a_child_could_not_use_takes_nothing_for_a_while_and_says_so() {
    let mut ledger = with(gpu(10_000, Some(0), &[]));
    ledger.unfit(&gpu_id(), "CUDA error 999", Millis(5));
    ledger.observe(Millis::from_secs(599), vec![gpu(10_000, Some(0), &[])]);
    let refused = ledger.reserve(run(1), &gpu_id(), Mib(1)).unwrap_err();
    assert_eq!(refused.to_string(), "GPU-a: a first allocation failed: CUDA error 999");
    assert_eq!(
        ledger.device(&gpu_id()).unwrap().report().fault.unwrap(),
        "a first allocation failed: CUDA error 999"
    );
    ledger.observe(Millis::from_secs(601), vec![gpu(10_000, Some(0), &[])]);
    ledger.reserve(run(1), &gpu_id(), Mib(1)).unwrap();
}

#[test]
fn a_card_that_shrinks_under_its_reservations_takes_nothing_more() {
    let mut ledger = with(gpu(10_000, Some(0), &[]));
    ledger.reserve(run(1), &gpu_id(), Mib(5_000)).unwrap();
    ledger.observe(Millis(1), vec![gpu(1_000, Some(0), &[])]);
    let device = ledger.device(&gpu_id()).unwrap();
    assert!(device.reserved_mib() <= device.budget_mib());
    assert!(device.fault().unwrap().contains("less than what is reserved"));
}

#[test]
fn side_by_side_is_bounded() {
    let mut ledger = with(DeviceFacts { max_jobs: 1, ..gpu(10_000, Some(0), &[]) });
    ledger.reserve(run(1), &gpu_id(), Mib(1)).unwrap();
    assert!(matches!(ledger.reserve(run(2), &gpu_id(), Mib(1)), Err(NoRoom::TooManyJobs { .. })));
    assert_eq!(ledger.reserve(run(1), &gpu_id(), Mib(1)), Err(NoRoom::Twice(run(1))));
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(u8, u64),
    Start(u8, u32),
    Reap(u8),
    Release(u8),
    Look { total: u64, used: Option<u64>, pid: u32, taken_at: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8u8, 0..12_000u64).prop_map(|(n, mib)| Step::Reserve(n, mib)),
        (0..8u8, 1..6u32).prop_map(|(n, pid)| Step::Start(n, pid)),
        (0..8u8).prop_map(Step::Reap),
        (0..8u8).prop_map(Step::Release),
        (0..20_000u64, proptest::option::of(0..20_000u64), 1..6u32, 0..50u64)
            .prop_map(|(total, used, pid, taken_at)| Step::Look { total, used, pid, taken_at }),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_over_commits(steps in proptest::collection::vec(step(), 1..80)) {
        let mut ledger = with(gpu(10_000, Some(0), &[]));
        for (now, step) in steps.into_iter().enumerate() {
            match step {
                Step::Reserve(n, mib) => {
                    let free = ledger.device(&gpu_id()).and_then(Device::free_mib);
                    if ledger.reserve(run(n), &gpu_id(), Mib(mib)).is_ok() {
                        prop_assert!(free.is_some_and(|free| Mib(mib) <= free));
                    }
                }
                Step::Start(n, pid) => ledger.child_started(&run(n), pid),
                Step::Reap(n) => ledger.child_reaped(&run(n), Millis(now as u64)),
                Step::Release(n) => ledger.release(&run(n)),
                Step::Look { total, used, pid, taken_at } => {
                    ledger.observe(Millis(taken_at), vec![gpu(total, used, &[(pid, Some(100))])]);
                }
            }
            for device in ledger.devices() {
                prop_assert!(device.reserved_mib() <= device.budget_mib());
            }
        }
    }
}
