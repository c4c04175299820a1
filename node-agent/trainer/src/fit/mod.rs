//! The epoch loop, the same for every model trained by gradient descent on graphs.
//!
//! | Where | What |
//! |--|--|
//! | [`trainee`] | what the loop needs of a model |
//! | [`sampler`] | which graphs an epoch visits, and in which order |
//! | [`loader`] | graphs to tensors |
//! | [`schedule`] | the learning rate of a step |
//! | [`step`] | one optimiser step: accumulation, out-of-memory |
//! | [`evaluator`] | a model over whole sets: progress, stop, out-of-memory |
//! | [`early_stop`] | best epoch and patience |
//! | [`progress`] | what a checkpoint holds, and resuming from one |
//! | [`run`] | the loop itself |
//! | [`listener`] | who is told, and who may ask to stop |
//! | [`seed`] | random streams by purpose |
//!
//! Every random choice is a function of (seed, model, epoch, step): nothing of a generator's inner state has
//! to be saved for a resumed fit to continue bit by bit on a CPU with the same number of threads.
//!
//! The effective batch is `FitSemantic::batch_size`; how many graphs lie on the device at once (the micro-batch)
//! changes the draws of dropout and noise, the batch statistics of the VGAE's batch normalisation, and rounding.
//! So a step that ran out of memory is repeated as if it had been run with the smaller micro-batch from the
//! start, byte for byte (`step` restores what a try has touched), but a fit that had to make its micro-batch
//! smaller does not end with the bytes of one that never had to.

pub mod early_stop;
pub mod error;
pub mod evaluator;
pub mod listener;
pub mod loader;
pub mod progress;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod seed;
pub mod step;
#[cfg(test)]
pub(crate) mod testing;
pub mod trainee;

pub use error::FitError;
pub use evaluator::Evaluator;
pub use listener::{Listener, StopRequest};
pub use run::{FitOptions, FitSummary, TrainData, fit};
pub use trainee::{Share, Trainee, Validation};
