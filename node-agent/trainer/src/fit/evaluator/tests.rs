use std::cell::{Cell, RefCell};
use std::path::Path;

use common::trainer_protocol::Stage;

use super::*;
use crate::fit::StopRequest;
use crate::fit::testing::{gat, set};

/// Keeps what it hears, and asks to stop after so many reports.
#[derive(Default)]
struct Ear {
    reports: RefCell<Vec<EpochReport>>,
    memory: Vec<(u32, bool)>,
    stop_after: Option<usize>,
}

impl Listener for Ear {
    fn stage(&mut self, _: Stage) {}
    fn epoch(&mut self, report: &mut dyn FnMut() -> EpochReport, _: bool) {
        self.reports.get_mut().push(report());
    }
    fn batch_adjusted(&mut self, _: u32, _: u32, _: u32, _: &str) {}
    fn out_of_memory(&mut self, micro_batch: u32, recovered: bool, _: &str) {
        self.memory.push((micro_batch, recovered));
    }
    fn checkpoint(&mut self, _: &Path, _: &str, _: u32) {}
    fn stop_requested(&self) -> Option<StopRequest> {
        let heard = self.reports.borrow().len();
        self.stop_after
            .is_some_and(|after| heard >= after)
            .then(|| StopRequest { reason: "test".to_owned(), checkpoint: false })
    }
}

#[test]
fn memory_that_runs_out_halves_the_batch_and_no_graph_is_lost_or_doubled() {
    let (gat, set) = (gat(), set(23));
    let pool: Vec<u32> = (0..23).collect();
    let (mut loader, mut ear) = (Loader::new(Device::Cpu), Ear::default());
    let whole = Evaluator::of_passes(&mut loader, &mut ear, 64, "gat", 1)
        .rows(&set, &pool, 2, |batch| gat.forward(batch, false))
        .unwrap();
    let refused = Cell::new(0);
    let mut evaluator = Evaluator::of_passes(&mut loader, &mut ear, 16, "gat", 1);
    let rows = evaluator
        .rows(&set, &pool, 2, |batch| {
            // The second batch is the one that does not fit.
            if batch.n_graphs > 5 && batch.labels.double_value(&[0]) == 0.0 || batch.n_graphs > 12 {
                refused.set(refused.get() + 1);
                panic!("CUDA out of memory. Tried to allocate 1.00 GiB");
            }
            gat.forward(batch, false)
        })
        .unwrap();
    assert!(refused.get() > 0 && evaluator.batch() < 16);
    assert_eq!(rows.size(), [23, 2]);
    assert!((rows - whole).abs().max().double_value(&[]) < 1e-5);
    assert_eq!(ear.memory.len(), refused.get());
}

#[test]
fn a_single_graph_that_does_not_fit_is_out_of_memory() {
    let set = set(3);
    let (mut loader, mut ear) = (Loader::new(Device::Cpu), Ear::default());
    let refused = Evaluator::of_passes(&mut loader, &mut ear, 2, "gat", 1)
        .rows(&set, &[0, 1, 2], 1, |_| panic!("DefaultCPUAllocator: can't allocate memory"));
    assert!(matches!(refused, Err(FitError::OutOfMemory { micro_batch: 1, .. })), "{refused:?}");
    assert_eq!(ear.memory, [(2, true), (1, false)]);
}

#[test]
fn progress_is_told_by_pass_and_a_stop_is_heard_between_two_batches() {
    let (gat, set) = (gat(), set(10));
    let pool: Vec<u32> = (0..10).collect();
    let (mut loader, mut ear) = (Loader::new(Device::Cpu), Ear { stop_after: Some(4), ..Ear::default() });
    let mut evaluator = Evaluator::of_passes(&mut loader, &mut ear, 5, "gat", 3);
    let mut pass = || evaluator.rows(&set, &pool, 2, |batch| gat.forward(batch, false));
    assert!(pass().is_ok());
    assert!(matches!(pass(), Err(FitError::Stopped { .. })));
    let told: Vec<(u32, u32, f64)> =
        ear.reports.borrow().iter().map(|r| (r.epoch, r.epochs, r.fraction)).collect();
    assert_eq!(told, [(1, 3, 0.5), (1, 3, 1.0), (2, 3, 0.5), (2, 3, 1.0)]);
    assert!(ear.reports.borrow().iter().all(|report| report.loss.is_none()));
}

#[test]
fn an_empty_pool_gives_an_empty_table() {
    let (mut loader, mut ear) = (Loader::new(Device::Cpu), Ear::default());
    let rows = Evaluator::of_passes(&mut loader, &mut ear, 5, "gat", 1)
        .rows(&set(1), &[], 3, |_| unreachable!("there is no batch"))
        .unwrap();
    assert_eq!(rows.size(), [0, 3]);
}
