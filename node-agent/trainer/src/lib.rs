//! The trainer: turns prepared graphs into trained models, in a child process of the node agent.
//!
//! The only room that touches libtorch. It never sees the bus, the object store or NVML: it reads captures
//! from disk, writes files into the scratch folder of one attempt, and speaks
//! [`common::trainer_protocol`] on its pipes.
//!
//! | Where | What |
//! |--|--|
//! | [`runtime`] | first torch call of the process: CUDA library, heap settings, threads |
//! | [`batch`] | graphs as tensors on a device |
//! | [`nn`] | layers and models: GATConv, GAT with jumping knowledge, VGAE, Q-network |
//! | [`objective`] | losses, knowledge distillation, fusion reward |
//! | [`optim`] | Adam and AdamW whose state can be saved |
//! | [`fit`] | the epoch loop: sampling, accumulation, early stopping, resume, out-of-memory |
//! | [`memory`] | the device's memory: pressure, budget, the batch that fits |
//! | [`metrics`] | what a report says about decisions and rankings; thresholds |
//! | [`checkpoint`] | crash-safe snapshots of a running fit |
//! | [`pth`] | files Python's `torch.load(weights_only=True)` accepts |
//! | [`torchscript`] | models as one file that libtorch and Python run without this crate |
//! | [`phase`] | teacher, student and fusion, from graphs to the files of a result |
//! | [`scoring`] | captures and live traffic scored window by window |
//! | [`session`] | one attempt over the protocol |

pub mod batch;
pub mod checkpoint;
pub mod fit;
pub mod memory;
pub mod metrics;
pub mod nn;
pub mod objective;
pub mod optim;
pub mod phase;
pub mod pth;
pub mod runtime;
pub mod scoring;
pub mod session;
pub mod torchscript;
